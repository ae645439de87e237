"""Fold the event log into the state of each run, and notify subscribers of changes."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Generic, Protocol, TypeVar

import structlog

from labelloop.domain.hold_ups import HoldUp, HoldUps, merged
from labelloop.domain.run_log import RunLog
from labelloop.errors import NotFound, WrongState
from labelloop.eventlog.archived_runs import ArchivedRuns, refusal
from labelloop.eventlog.beginnings import Beginnings
from labelloop.eventlog.log import EventLog, Recorded
from labelloop.eventlog.run_states import RunStates
from labelloop.events.v1.events_pb2 import Event
from labelloop.observability import metrics
from labelloop.runtime.waiting import waiting

log = structlog.get_logger()


class Run(Protocol):
    """The state that a service folds from the events of one run."""

    run_log: RunLog

    def apply(self, event: Event, at: datetime) -> None:
        """Apply an event that has no fault to ``run_log`` and to what else the state holds."""
        ...

    @property
    def over(self) -> bool:
        """Whether the run has ended."""
        ...


R = TypeVar("R", bound=Run)


class RunProjections(Generic[R]):
    """The states of all runs in one service, kept up to date with the event log.

    An imported run appears completely or not at all, as :mod:`labelloop.eventlog.beginnings` says.

    Args:
        begin: Creates a run's state from its ``run_started`` event and the time at which that was recorded.
        summarize: What is kept, beside the events, of the state of a run that has ended; None to keep the state.

    Attributes:
        runs: The state of each run.
        problems: What keeps a run from going on; empty if nothing does.
        progress: What a step of a run that takes long has done so far; empty if none does.
        hold_ups: What holds up runs and tools, as other replicas and services report it.
        refused: Sequences of events that break the rules of their run; they stay in the log and are skipped.
        carriers: Trace headers of the span in which each run's newest event was written, if that was traced.
        archived: The runs that lie in an archive, of which there is no state.
        newest: The newest event that was applied by this process; None before the first.
        beginnings: The events of ids of which there is no run, such as those of imports that were cut short.
    """

    def __init__(self, begin: Callable[[Event, datetime], R], summarize: Callable[[R], object] | None = None) -> None:
        self.runs: RunStates[R] = RunStates(begin, summarize)
        self.beginnings = Beginnings(self.runs.begin, self._apply, self._refuse)
        self.problems: dict[str, str] = {}
        self.progress: dict[str, str] = {}
        self._since: dict[tuple[str, bool], float] = {}
        self.hold_ups = HoldUps()
        self.refused: set[int] = set()
        self.carriers: dict[str, Mapping[str, str]] = {}
        self.archived = ArchivedRuns()
        self.newest: Recorded | None = None
        self._sequence = 0
        self._arrivals: list[tuple[int, asyncio.Future[None]]] = []
        self._subscriptions: dict[str, set[asyncio.Event]] = defaultdict(set)

    @property
    def sequence(self) -> int:
        """Sequence of the newest event that was applied; 0 before the first."""
        return self._sequence

    async def follow(self, log: EventLog) -> None:
        """Apply the events of the log as it grows, forever."""
        async for recorded in log.follow(after=self._sequence):
            self.apply(recorded)

    def apply(self, recorded: Recorded) -> None:
        """Apply the next event of the log; one that was applied before changes nothing."""
        if recorded.sequence <= self._sequence:
            metrics.EVENTS_SEEN_AGAIN.inc()
            return
        if recorded.event is not None:
            self._sort(recorded, recorded.event)
            if recorded.carrier and recorded.event.run_id not in self.archived:
                self.carriers[recorded.event.run_id] = recorded.carrier
            self.notify(recorded.event.run_id)
        self._sequence, self.newest = recorded.sequence, recorded
        for sequence, arrival in self._arrivals:
            if sequence <= self._sequence and not arrival.done():
                arrival.set_result(None)
        self._arrivals = [waiting for waiting in self._arrivals if not waiting[1].done()]

    def go_on_from(self, sequence: int, runs: RunStates[R]) -> None:
        """Take over the states of all runs as of ``sequence``, before any event is applied."""
        assert not self._sequence, "states are taken over before events are applied"
        self._sequence, self.runs = sequence, runs
        self.beginnings = Beginnings(runs.begin, self._apply, self._refuse)

    def _sort(self, recorded: Recorded, event: Event) -> None:
        kind = event.WhichOneof("payload")
        if kind == "run_archived":
            self._archive(recorded, event)
        elif kind == "run_restored":
            self._restore(recorded, event)
        elif kind == "run_deleted":
            if fault := self.archived.delete(event):
                self._refuse(recorded, event, fault)
        elif event.run_id in self.archived:
            self.archived.hold(recorded, event)
        elif event.run_id in self.runs:
            self._apply(self.runs[event.run_id], recorded, event)
        elif (run := self.beginnings.take(recorded, event)) is not None:
            self.runs[event.run_id] = run
        elif kind == "import_cleared":
            self.runs.drop(event.run_id)

    def _archive(self, recorded: Recorded, event: Event) -> None:
        if fault := self.archived.archive(recorded, event):
            self._refuse(recorded, event, fault)
            return
        self.runs.drop(event.run_id)
        for held in (self.problems, self.progress, self.carriers):
            held.pop(event.run_id, None)
        for at_work in (False, True):
            self._since.pop((event.run_id, at_work), None)
        self.beginnings.forget(event.run_id)

    def _restore(self, recorded: Recorded, event: Event) -> None:
        """Build the state of a run anew from the events that followed its ``run_archived``."""
        if fault := self.archived.fault_of_restoration(event):
            self._refuse(recorded, event, fault)
            if event.run_id in self.archived:
                self.archived.hold(recorded, event)
            return
        (start, started), *others = self.archived.restore(event.run_id)
        run = self.runs[event.run_id] = self.runs.begin(started, start.at)
        for other, other_event in others:
            self._apply(run, other, other_event)

    def _apply(self, run: R, recorded: Recorded, event: Event) -> None:
        if fault := run.run_log.fault(event):
            self._refuse(recorded, event, fault)
        else:
            self.runs.apply(run, event, recorded.at, recorded.data)

    def _refuse(self, recorded: Recorded, event: Event, fault: str) -> None:
        self.refused.add(recorded.sequence)
        metrics.AGAINST_THE_RULES.inc()
        log.error("event_against_rules_skipped", run=event.run_id, sequence=recorded.sequence, fault=fault)

    async def wait_for(self, sequence: int) -> None:
        """Return once all events up to ``sequence`` are applied."""
        if self._sequence < sequence:
            arrival = asyncio.get_running_loop().create_future()
            self._arrivals.append((sequence, arrival))
            with waiting("the broker") as wait:
                wait.problem = f"event {sequence} has not arrived yet"
                await arrival

    async def wait_for_append(self, recorded: Recorded) -> None:
        """Return once the event that an append returned is applied.

        Raises:
            WrongState: If it breaks the rules of its run. It occupies the subject of the run's next event, so that
                the run cannot go on. Also if the run lies in an archive.
        """
        await self.wait_for(recorded.sequence)
        if recorded.event and recorded.event.run_id in self.archived:
            raise refusal(self.archived.runs[recorded.event.run_id])
        if recorded.sequence in self.refused:
            message = f"the event at sequence {recorded.sequence} of the log breaks the rules of its run and blocks it"
            raise WrongState("RUN_BLOCKED", message, sequence=recorded.sequence)

    def get(self, run_id: str) -> R:
        """Return the state of a run.

        Raises:
            NotFound: If there is no such run.
            WrongState: If it lies in an archive, or was deleted.
        """
        if run_id in self.archived:
            raise refusal(self.archived.runs[run_id])
        if run_id not in self.runs:
            raise NotFound("UNKNOWN_RUN", self._why_unknown(run_id), run_id=run_id)
        return self.runs[run_id]

    def _why_unknown(self, run_id: str) -> str:
        if run_id in self.beginnings.cleared:
            return f"there is no run {run_id!r}: its import was given up"
        if self.beginnings.unfinished(run_id):
            return (
                f"there is no run {run_id!r} yet: its import has not ended; if it was cut short, import the file "
                f"again, or give it up with `labelloop run clear {run_id}`"
            )
        return f"there is no run {run_id!r}; `labelloop run list` shows those there are"

    def set_problem(self, run_id: str, problem: str) -> None:
        """Set what keeps a run from going on; empty if it goes on. Archived runs have none."""
        if run_id in self.runs and self.problems.get(run_id, "") != problem:
            self.problems[run_id] = problem
            self._note_time(run_id, problem, at_work=False)
            self.notify(run_id)

    def set_progress(self, run_id: str, progress: str) -> None:
        """Set what a step of a run has done so far; empty once it has ended."""
        if run_id in self.runs and self.progress.get(run_id, "") != progress:
            self.progress[run_id] = progress
            self._note_time(run_id, progress, at_work=True)
            self.notify(run_id)

    def _note_time(self, run_id: str, text: str, *, at_work: bool) -> None:
        """Note when something began to hold a run up; other words for it do not make it newer."""
        if text:
            self._since.setdefault((run_id, at_work), time.time())
        else:
            self._since.pop((run_id, at_work), None)

    def own_hold_ups(self, service: str, run_id: str = "") -> list[HoldUp]:
        """Return what holds up a run here, or all unfinished runs if none is named; for any thread.

        Args:
            service: The name of this service.
        """
        keys = [(run_id, False), (run_id, True)] if run_id else list(self._since)
        texts = {False: self.problems, True: self.progress}
        return [
            HoldUp(service, text, since, each, at_work=at_work)
            for each, at_work in keys
            if (since := self._since.get((each, at_work))) is not None
            and (text := texts[at_work].get(each, ""))
            and self.runs.is_going(each)
        ]

    def held_up_by(self, service: str, run_id: str, tool: str = "") -> list[HoldUp]:
        """Return what holds up a run that uses ``tool``, here and as others report it, oldest first."""
        return merged([*self.own_hold_ups(service, run_id), *self.hold_ups.of_run(run_id, tool)])

    def held_up(self) -> list[str]:
        """Return the unfinished runs that have a problem; may be called from another thread."""
        problems = self.problems.copy()
        return [run_id for run_id, problem in problems.items() if problem and self.runs.is_going(run_id)]

    def notify(self, run_id: str) -> None:
        for changed in (*self._subscriptions.get(run_id, ()), *self._subscriptions.get("", ())):
            changed.set()

    @contextmanager
    def subscribe(self, run_id: str = "") -> Iterator[asyncio.Event]:
        """Yield an ``asyncio.Event`` that is set at each change of a run, or of any run if none is named."""
        changed = asyncio.Event()
        self._subscriptions[run_id].add(changed)
        try:
            yield changed
        finally:
            self._subscriptions[run_id].discard(changed)
