"""Decide when the events of a run id become a run.

An import writes ``run_started`` first, which says how many events of which digest follow. There is no run before all of
them stand, so that an import that is cut short is no run in any service. Imports of earlier releases wrote
``run_started`` last, without saying so: there the events before it are part of the run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, NamedTuple, TypeAlias, TypeVar

import structlog

from labelloop.domain.imported_events import EventsDigest
from labelloop.eventlog.log import Recorded
from labelloop.events.v1.events_pb2 import Event, ImportedEvents

R = TypeVar("R")
Refuse: TypeAlias = Callable[[Recorded, Event, str], None]

_EARLY = "it stood before its run was started here"
_GIVEN_UP = "the import that it belongs to was given up"
_DAMAGED = "it belongs to an import whose events are not those that were announced"

log = structlog.get_logger()


class Unfinished(NamedTuple):
    """An import that was cut short.

    Attributes:
        events: How many events stand, ``run_started`` included.
        expected: How many there would be; 0 if that is not known.
        damaged: Whether its events are not those that it announced, so that it can only be cleared.
    """

    run_id: str
    events: int
    expected: int
    damaged: bool


@dataclass
class _Import(Generic[R]):
    run: R
    announced: ImportedEvents
    found: EventsDigest = field(default_factory=EventsDigest)

    @property
    def complete(self) -> bool:
        return self.found.count == self.announced.count

    @property
    def damaged(self) -> bool:
        return self.complete and self.found.imported() != self.announced


class Beginnings(Generic[R]):
    """The events of run ids of which there is no run.

    Args:
        begin: Creates a run's state from its ``run_started`` event and the time at which that was recorded.
        apply: Applies an event to a run's state, or refuses it.
        refuse: Called with an event that is part of no run, and why.

    Attributes:
        cleared: Ids whose import was given up. They are not used again.
    """

    def __init__(
        self, begin: Callable[[Event, datetime], R], apply: Callable[[R, Recorded, Event], None], refuse: Refuse
    ) -> None:
        self._begin, self._apply, self._refuse = begin, apply, refuse
        self._early: dict[str, list[tuple[Recorded, Event]]] = {}
        self._imports: dict[str, _Import[R]] = {}
        self.cleared: set[str] = set()

    def take(self, recorded: Recorded, event: Event) -> R | None:
        """Take the next event of an id that has no run, and return the run if this one completes it."""
        run_id = event.run_id
        if run_id in self.cleared:
            self._refuse(recorded, event, _GIVEN_UP)
        elif event.HasField("import_cleared"):
            self._clear(run_id)
        elif run_id in self._imports:
            return self._go_on(recorded, event)
        elif event.HasField("run_started"):
            return self._start(recorded, event)
        else:
            self._early.setdefault(run_id, []).append((recorded, event))
        return None

    def unfinished(self, run_id: str) -> Unfinished | None:
        """Return the import of ``run_id`` that was cut short, or is under way; None if there is none."""
        if under_way := self._imports.get(run_id):
            return Unfinished(run_id, under_way.found.count + 1, under_way.announced.count + 1, under_way.damaged)
        early = len(self._early.get(run_id, ()))
        return Unfinished(run_id, early, 0, False) if early else None

    def all_unfinished(self) -> Iterator[Unfinished]:
        """Yield every import that was cut short, or is under way."""
        return filter(None, map(self.unfinished, [*self._imports, *self._early]))

    def forget(self, run_id: str) -> None:
        """Drop what is held of an id whose run lies in an archive."""
        self._imports.pop(run_id, None)
        self._early.pop(run_id, None)

    def _clear(self, run_id: str) -> None:
        self.cleared.add(run_id)
        self._imports.pop(run_id, None)
        for recorded, event in self._early.pop(run_id, ()):
            self._refuse(recorded, event, _GIVEN_UP)

    def _start(self, recorded: Recorded, event: Event) -> R | None:
        started, run = event.run_started, self._begin(event, recorded.at)
        early = self._early.pop(event.run_id, [])
        if started.imported.count:
            self._imports[event.run_id] = _Import(run, started.imported)
            done = [self._go_on(*each) for each in early]
            return next(filter(None, done), None)
        for each in early:
            if started.HasField("imported"):
                self._refuse(*each, _EARLY)
            else:
                self._apply(run, *each)
        return run

    def _go_on(self, recorded: Recorded, event: Event) -> R | None:
        """Take the next event of an import, and return the run if it is complete and what was announced."""
        under_way = self._imports.get(event.run_id)
        if under_way is None or under_way.complete:  # more stand than were announced
            self._refuse(recorded, event, _DAMAGED if under_way else _EARLY)
            return None
        under_way.found.add(recorded.data or event.SerializeToString(deterministic=True))
        self._apply(under_way.run, recorded, event)
        if not under_way.complete:
            return None
        if under_way.damaged:
            log.error("import_damaged", run=event.run_id, sequence=recorded.sequence, events=under_way.found.count)
            return None
        return self._imports.pop(event.run_id).run
