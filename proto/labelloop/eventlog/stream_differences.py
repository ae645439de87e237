"""Compare the settings of a stream with what they must be. Pure functions.

Every setting that nats-server 2.9 to 2.15 knows is listed, either as one that must have a certain value or as one that
may have any. A setting that is not listed is reported if it is set, because what it does is not known here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from labelloop.eventlog.streams import StreamSpec

_ANY = frozenset(
    {
        "name",
        "description",
        "metadata",
        "placement",  # the operator's choice of nodes
        "compression",
        "duplicate_window",  # no message of ours carries an id
        "first_seq",
        "allow_direct",  # reads from any node; ours ask the leader
        "mirror_direct",
        "consumer_limits",
        "template_owner",
        "max_msg_size",  # a larger message is refused, with the broker's reason
        "allow_atomic",  # several writes at once, each under the conditions of a single one
        "allow_batched",
    }
)
_FORGETS = "it would forget messages"
_HARM: Mapping[str, str] = MappingProxyType(
    {
        "retention": _FORGETS,
        "max_msgs": _FORGETS,
        "max_msgs_per_subject": _FORGETS,
        "max_age": _FORGETS,
        "max_bytes": _FORGETS,
        "discard_new_per_subject": "it would refuse messages",
        "storage": "a restart of the broker would lose all messages",
        "persist_mode": "it acknowledges messages that are not on the disk yet",
        "no_ack": "it does not say which messages it stored",
        "sealed": "it takes no more messages",
        "max_consumers": "services could not read it",
        "mirror": "its messages come from another stream",
        "sources": "it takes messages from other streams",
        "republish": "its messages are published again under other subjects",
        "subject_transform": "it stores messages under other subjects",
        "deny_delete": "messages could be deleted",
        "deny_purge": "messages could be purged",
        "allow_msg_ttl": "a message may ask to be forgotten",
        "subject_delete_marker_ttl": "it writes messages of its own",
        "allow_msg_counter": "it adds messages up instead of storing them",
        "allow_msg_schedules": "a message may ask to be published later, under another subject",
    }
)
_MENDED: Mapping[str, str] = MappingProxyType(
    {
        "subjects": "other messages are stored than should be",
        "discard": "once it is full it discards or refuses other messages than it should",
        "num_replicas": "fewer nodes keep each message than should",
        "allow_rollup_hdrs": "a message may ask that those before it be deleted",
    }
)
_FIXED = frozenset(  # the broker changes these never, or not in this direction
    {
        "retention",
        "storage",
        "persist_mode",
        "sealed",
        "max_consumers",
        "mirror",
        "allow_msg_ttl",
        "allow_msg_counter",
        "allow_msg_schedules",
    }
)
_LIMITS = frozenset({"max_msgs", "max_msgs_per_subject", "max_age", "max_bytes", "max_consumers"})
_DEFAULTS: Mapping[str, Any] = MappingProxyType({"discard": "old", "persist_mode": "default"})


@dataclass(frozen=True)
class Difference:
    """A setting of a stream that is not what it should be.

    Attributes:
        setting: Its name in the broker's API.
        standing: Its value; None if it is not set.
        wanted: What it should be; None if it should not be set.
        why: What it leads to.
        is_safe: Whether a service may go on nevertheless.
        can_change: Whether the broker can change it.
    """

    setting: str
    standing: Any
    wanted: Any
    why: str
    is_safe: bool
    can_change: bool

    def __str__(self) -> str:
        should = f"should be {self.wanted!r}" if self.wanted else "should not be set"
        return f"{self.setting} is {self.standing!r} and {should} ({self.why})"


def differences(spec: StreamSpec, standing: Mapping[str, Any]) -> list[Difference]:
    """List the settings of a stream that are not as ``spec`` says, in the order of their names.

    Args:
        standing: The stream's settings as the broker's API returns them.
    """
    return sorted(_differences(spec.config, standing), key=lambda each: each.setting)


def said(found: Sequence[Difference]) -> str:
    """Say all differences in one line."""
    return "; ".join(map(str, found))


def mended(spec: StreamSpec, standing: Mapping[str, Any], found: Sequence[Difference]) -> dict[str, Any]:
    """Return the settings ``standing`` with those of ``found`` that the broker can change put right."""
    changed = {each.setting: each.wanted for each in found if each.can_change}
    return {name: value for name, value in {**standing, **changed}.items() if value is not None}


def _differences(wanted: Mapping[str, Any], standing: Mapping[str, Any]) -> Iterator[Difference]:
    for setting in (wanted.keys() | standing.keys()) - _ANY:
        is_now = standing.get(setting)
        should = wanted.get(setting)
        if not _is_same(setting, is_now, should):
            found = _difference(setting, is_now, should)
            rolls_up = setting == "allow_rollup_hdrs" and wanted.get("deny_delete")
            yield replace(found, is_safe=False) if rolls_up else found


def _difference(setting: str, standing: Any, wanted: Any) -> Difference:
    resized = setting in _LIMITS and _is_limit(wanted) and setting not in _FIXED
    if setting in _HARM and not resized:
        return Difference(setting, standing, wanted, _HARM[setting], False, setting not in _FIXED)
    if setting in _MENDED:
        return Difference(setting, standing, wanted, _MENDED[setting], True, True)
    if resized:
        return Difference(setting, standing, wanted, "another limit was set since", True, True)
    return Difference(setting, standing, wanted, "this version does not know it", True, False)


def _is_same(setting: str, standing: Any, wanted: Any) -> bool:
    if setting == "num_replicas":
        return bool((standing or 1) >= wanted)  # more copies than asked for do no harm
    if setting == "subjects":
        return set(standing or ()) == set(wanted)
    if setting in _LIMITS:
        return standing == wanted or not (_is_limit(standing) or _is_limit(wanted))
    if setting in ("deny_delete", "deny_purge"):
        return bool(standing) or not wanted  # stricter than needed
    is_now, should = (value or _DEFAULTS.get(setting) for value in (standing, wanted))
    return is_now == should or not (is_now or should)


def _is_limit(value: Any) -> bool:
    return isinstance(value, int) and value > 0
