"""Describe the end of a run. No I/O."""

from __future__ import annotations

from dataclasses import dataclass

from labelloop.events.v1.events_pb2 import Event

RUN_ENDS = frozenset({"run_finished", "run_cancelled", "run_failed"})  # payloads that end a run
ABOUT_ARCHIVES = frozenset({"run_archived", "run_restored", "run_deleted"})  # say where a run lies that has ended


@dataclass(frozen=True)
class Ended:
    """How a run ended.

    Attributes:
        kind: One of ``RUN_ENDS``.
        why: The reason, for people.
    """

    kind: str
    why: str


def end_of(event: Event) -> Ended | None:
    """Return the end that ``event`` records; None if it is of another kind."""
    kind = event.WhichOneof("payload")
    if kind not in RUN_ENDS:
        return None
    return Ended(kind, event.run_failed.message if kind == "run_failed" else getattr(event, kind).reason)
