"""Request ids and lease keys: round trips, malformed texts and conflicts of leases."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from labelloop.domain.ids import LeaseKey, RequestId, request_id_prefix
from labelloop.domain.limits import COUNT_MAX, TEXT_CHARACTERS_MAX
from labelloop.errors import InvalidInput

RUN_IDS = st.text(string.ascii_letters + string.digits + "_-", min_size=1, max_size=64)
NUMBERS, POSITIVE = st.integers(0, COUNT_MAX), st.integers(1, COUNT_MAX)
SAMPLES = st.builds(RequestId, RUN_IDS, NUMBERS, NUMBERS)
SLOTS = st.builds(RequestId, RUN_IDS, NUMBERS, NUMBERS, NUMBERS)
KEYS = st.builds(LeaseKey, SAMPLES, POSITIVE) | st.builds(LeaseKey, SLOTS, st.just(0), NUMBERS)


@given(SAMPLES | SLOTS)
def test_a_request_id_round_trips_through_its_text(request_id: RequestId) -> None:
    assert RequestId.parse(str(request_id)) == request_id
    assert str(request_id).startswith(request_id_prefix(request_id.run_id))
    assert request_id.subject.split(".") == str(request_id).split("/")


@given(KEYS)
def test_a_lease_key_round_trips_through_its_text(key: LeaseKey) -> None:
    assert LeaseKey.parse(str(key)) == key


@given(st.text(max_size=80) | st.text("r/.-of0123456789", max_size=20))
def test_any_text_is_refused_or_round_trips_through_its_parts(text: str) -> None:
    for codec in (RequestId, LeaseKey):
        try:
            parsed = codec.parse(text)
        except InvalidInput:
            continue
        assert str(parsed) == text


@pytest.mark.parametrize(
    "text",
    [
        *("", "r", "r/1", "r/1/2/3/4", "r/a/2", "r/1/-2", "r/1/2/", "a.b/1/2", "r/1/2\n", "/1/2", "r//2", " r/1/2"),
        *("r/01/2", "r/1/02", "r/1/2/00", "r/+1/2", "r/1_0/2", "r/1/٣", f"r/{COUNT_MAX + 1}/2", f"{'r' * 65}/1/2"),
        *("r.1.2", "r/1/2.0", "r/1/2/of1"),
    ],
)
def test_malformed_request_ids_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        RequestId.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        *("", "r.1.2", "r.1.2.", "r.1.2.0.1", "r.1.2.0-", "r.1.2.0-0", "r.1.2.0-01", "r.1.2.of", "r.1.2.of0", "old.1"),
        *("r.1.2.of01", "r.1.2.of1-2", "r.1.2.00", "r/1/2/0", "r.1.2.٣", "r.1.2.0\n", f"r.1.2.of{COUNT_MAX + 1}"),
    ],
)
def test_malformed_lease_keys_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        LeaseKey.parse(text)


def test_an_error_quotes_only_the_beginning_of_a_long_text() -> None:
    with pytest.raises(InvalidInput) as refused:
        RequestId.parse("r/" * 100_000)
    assert len(refused.value.message) < 2 * TEXT_CHARACTERS_MAX
    assert refused.value.values["request_id"] == ("r/" * 100_000)[:TEXT_CHARACTERS_MAX]


@pytest.mark.parametrize(
    ("one", "other", "conflict"),
    [
        ("r.0.7.0", "r.0.7.0", True),
        ("r.0.7.0", "r.0.7.0-2", True),
        ("r.0.7.0", "r.0.7.1", False),
        ("r.0.7.of1", "r.0.7.of2", True),
        ("r.0.7.of2", "r.0.7.1", True),
        ("r.0.7.of1", "r.0.8.of1", False),
        ("r.0.7.0", "s.0.7.0", False),
    ],
)
def test_leases_of_one_slot_or_of_a_whole_sample_conflict(one: str, other: str, conflict: bool) -> None:
    keys = LeaseKey.parse(one), LeaseKey.parse(other)
    assert keys[0].conflicts_with(keys[1]) is keys[1].conflicts_with(keys[0]) is conflict
