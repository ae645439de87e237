"""All runs as one service knows them: a fold of each, kept up with the log, and who waits for a change."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Generic, Protocol, TypeVar

import structlog

from labelloop.events.v1.events_pb2 import Event
from labelloop.wire import metrics
from labelloop.wire.errors import NotFound, WrongState
from labelloop.wire.eventlog import EventLog, Recorded
from labelloop.wire.run_rules import RunRules

log = structlog.get_logger()


class Run(Protocol):
    """What a service makes of the events of one run."""

    def apply(self, event: Event, at: datetime) -> None: ...

    @property
    def over(self) -> bool:
        """Whether the run has ended."""
        ...


R = TypeVar("R", bound=Run)


class RunBook(Generic[R]):
    """``begin`` makes a run's state of its ``run_started``; ``problems`` says what keeps a run from going on.

    ``refused`` holds the sequences of events that break the rules of a run: they stay in the log and are passed over.
    Events that come before their ``run_started`` are taken in behind it: an import writes that one last, so that the
    run is there whole or not at all. ``carriers`` tell of the span that each run's newest event was written in, where
    that was traced.
    """

    def __init__(self, begin: Callable[[Event, datetime], R]) -> None:
        self._begin = begin
        self.runs: dict[str, R] = {}
        self.problems: dict[str, str] = {}
        self.refused: set[int] = set()
        self.carriers: dict[str, Mapping[str, str]] = {}
        self._rules: dict[str, RunRules] = {}
        self._early: defaultdict[str, list[tuple[Recorded, Event]]] = defaultdict(list)
        self._sequence = 0
        self._arrivals: list[tuple[int, asyncio.Future[None]]] = []
        self._bells: dict[str, set[asyncio.Event]] = defaultdict(set)

    async def follow(self, log: EventLog) -> None:
        """Take in the log as it grows, for ever."""
        async for recorded in log.follow():
            self.take(recorded)

    def take(self, recorded: Recorded) -> None:
        """Take in the next event of the log; one that was taken in already changes nothing."""
        if recorded.sequence <= self._sequence:
            metrics.EVENTS_SEEN_AGAIN.inc()
            return
        if recorded.event is not None:
            self._sort(recorded, recorded.event)
            if recorded.carrier:
                self.carriers[recorded.event.run_id] = recorded.carrier
            self.ring(recorded.event.run_id)
        self._sequence = recorded.sequence
        for sequence, arrival in self._arrivals:
            if sequence <= self._sequence and not arrival.done():
                arrival.set_result(None)
        self._arrivals = [waiting for waiting in self._arrivals if not waiting[1].done()]

    def _sort(self, recorded: Recorded, event: Event) -> None:
        run_id = event.run_id
        if run_id in self.runs:
            self._apply(recorded, event)
        elif event.HasField("run_started"):
            self._rules[run_id] = RunRules(event.run_started)
            self.runs[run_id] = self._begin(event, recorded.at)
            for early, early_event in self._early.pop(run_id, ()):
                self._apply(early, early_event)
        else:
            self._early[run_id].append((recorded, event))

    def _apply(self, recorded: Recorded, event: Event) -> None:
        rules = self._rules[event.run_id]
        if fault := rules.fault(event):
            self.refused.add(recorded.sequence)
            metrics.AGAINST_THE_RULES.inc()
            log.error("event against the rules passed over", run=event.run_id, sequence=recorded.sequence, fault=fault)
            return
        rules.note(event)
        self.runs[event.run_id].apply(event, recorded.at)

    async def reach(self, sequence: int) -> None:
        """Return once everything up to ``sequence`` is taken in."""
        if self._sequence < sequence:
            arrival = asyncio.get_running_loop().create_future()
            self._arrivals.append((sequence, arrival))
            await arrival

    async def settle(self, recorded: Recorded) -> None:
        """Return once what an append left standing is taken in. WrongState where that breaks the rules of its run:
        it stands where the run's next event belongs, so that the run cannot go on."""
        await self.reach(recorded.sequence)
        if recorded.sequence in self.refused:
            message = f"the event at sequence {recorded.sequence} of the log breaks the rules of its run and blocks it"
            raise WrongState("RUN_BLOCKED", message, sequence=recorded.sequence)

    def get(self, run_id: str) -> R:
        """NotFound where there is no such run."""
        if run_id not in self.runs:
            message = f"there is no run {run_id!r}; `labelloop run list` shows those there are"
            raise NotFound("UNKNOWN_RUN", message, run_id=run_id)
        return self.runs[run_id]

    def set_problem(self, run_id: str, problem: str) -> None:
        """Say what keeps a run waiting; empty when it goes on."""
        if self.problems.get(run_id, "") != problem:
            self.problems[run_id] = problem
            self.ring(run_id)

    def held_up(self) -> list[str]:
        """Runs that have a problem; may be asked for from another thread."""
        problems = self.problems.copy()
        return [run_id for run_id, problem in problems.items() if problem and not self.runs[run_id].over]

    def ring(self, run_id: str) -> None:
        for bell in (*self._bells.get(run_id, ()), *self._bells.get("", ())):
            bell.set()

    @contextmanager
    def bell(self, run_id: str = "") -> Iterator[asyncio.Event]:
        """An event that is set at each change of a run, or of any run where none is named."""
        bell = asyncio.Event()
        self._bells[run_id].add(bell)
        try:
            yield bell
        finally:
            self._bells[run_id].discard(bell)
