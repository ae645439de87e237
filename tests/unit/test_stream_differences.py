"""What is said of a stream whose settings are not as they should be, and which of it keeps a service from starting."""

from __future__ import annotations

from typing import Any

import pytest
from labelloop.errors import WrongState
from labelloop.eventlog.stream_differences import differences, mended, said
from labelloop.eventlog.stream_setup import check_safe
from labelloop.eventlog.streams import artifacts, dead_letters, events, leases, queue, uploads

# As nats-server 2.15.1 answers, whatever was asked for.
FILLED_IN = {
    "max_msg_size": -1,
    "duplicate_window": 120_000_000_000,
    "compression": "none",
    "mirror_direct": False,
    "sealed": False,
    "allow_rollup_hdrs": False,
    "consumer_limits": {},
    "allow_msg_ttl": False,
    "metadata": {"_nats.ver": "2.15.1"},
}
SPECS = [events(3), artifacts(3), leases(), dead_letters(), uploads(1_000), queue()]
UNSAFE: dict[str, Any] = {
    "retention": "workqueue",
    "storage": "memory",
    "max_msgs": 10,
    "max_msgs_per_subject": 1,
    "max_age": 1_000,
    "max_bytes": 1,
    "max_consumers": 1,
    "discard_new_per_subject": True,
    "no_ack": True,
    "sealed": True,
    "mirror": {"name": "OTHER"},
    "sources": [{"name": "OTHER"}],
    "republish": {"src": ">", "dest": "labelloop.v1.r.1.label.7.0"},
    "subject_transform": {"src": ">", "dest": "other.>"},
    "deny_delete": False,
    "allow_rollup_hdrs": True,
    "allow_msg_ttl": True,
    "subject_delete_marker_ttl": 1_000,
    "allow_msg_counter": True,
    "allow_msg_schedules": True,
    "persist_mode": "async",
}
SAFE: dict[str, Any] = {
    "num_replicas": 1,
    "subjects": ["labelloop.v1.old.>"],
    "discard": "new",
    "some_setting_of_a_later_broker": True,
}
HARMLESS: dict[str, Any] = {
    "num_replicas": 5,
    "max_msgs": 0,
    "duplicate_window": 1,
    "placement": {"tags": ["fast"]},
    "sources": None,
    "persist_mode": "default",
    "some_setting_of_a_later_broker": False,
}


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_a_stream_as_the_broker_makes_it_does_not_differ(spec: Any) -> None:
    assert differences(spec, {**FILLED_IN, **spec.config}) == []


@pytest.mark.parametrize("setting", UNSAFE)
def test_a_setting_that_loses_or_forges_messages_keeps_the_service_from_starting(setting: str) -> None:
    found = differences(events(3), {**FILLED_IN, **events(3).config, setting: UNSAFE[setting]})
    assert [each.setting for each in found] == [setting]
    with pytest.raises(WrongState, match=f"LABELLOOP cannot be used: {setting} is") as raised:
        check_safe(events(3), found)
    assert raised.value.reason in ("STREAM_FORGETS", "STREAM_UNSAFE")
    assert ("labelloop broker update" in raised.value.message) == found[0].can_change
    assert ("anew" in raised.value.message) != found[0].can_change


@pytest.mark.parametrize("setting", SAFE)
def test_a_setting_that_does_no_harm_yet_is_said_and_the_service_goes_on(setting: str) -> None:
    found = differences(events(3), {**FILLED_IN, **events(3).config, setting: SAFE[setting]})
    check_safe(events(3), found)
    assert f"{setting} is {SAFE[setting]!r} and should" in said(found)


@pytest.mark.parametrize("setting", HARMLESS)
def test_a_setting_that_may_have_any_value_is_not_reported(setting: str) -> None:
    assert differences(events(3), {**FILLED_IN, **events(3).config, setting: HARMLESS[setting]}) == []


def test_a_limit_that_has_been_changed_since_is_put_right() -> None:
    standing = {**FILLED_IN, **uploads(1_000).config}
    found = differences(uploads(2_000), standing)
    check_safe(uploads(2_000), found)
    assert mended(uploads(2_000), standing, found)["max_bytes"] == 2_000


def test_mending_keeps_what_the_operator_chose_and_removes_what_must_not_be_set() -> None:
    standing = {**FILLED_IN, **events().config, "placement": {"tags": ["fast"]}, "republish": {"src": ">"}}
    settings = mended(events(), standing, differences(events(), standing))
    assert settings["placement"] == {"tags": ["fast"]}
    assert "republish" not in settings


def test_what_the_broker_cannot_change_is_left_as_it_is() -> None:
    standing = {**FILLED_IN, **events().config, "storage": "memory"}
    assert mended(events(), standing, differences(events(), standing))["storage"] == "memory"
