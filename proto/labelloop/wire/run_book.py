"""All runs as one service knows them: a fold of each, kept up with the log, and who waits for a change."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Generic, Protocol, TypeVar

from labelloop.events.v1.events_pb2 import Event
from labelloop.wire.errors import NotFound
from labelloop.wire.eventlog import EventLog, Recorded


class Run(Protocol):
    """What a service makes of the events of one run."""

    def apply(self, event: Event, at: datetime) -> None: ...

    @property
    def over(self) -> bool:
        """Whether the run has ended."""
        ...


R = TypeVar("R", bound=Run)


class RunBook(Generic[R]):
    """``begin`` makes a run's state of its ``run_started``; ``problems`` says what keeps a run from going on."""

    def __init__(self, begin: Callable[[Event, datetime], R]) -> None:
        self._begin = begin
        self.runs: dict[str, R] = {}
        self.problems: dict[str, str] = {}
        self._sequence = 0
        self._arrivals: list[tuple[int, asyncio.Future[None]]] = []
        self._bells: dict[str, set[asyncio.Event]] = defaultdict(set)

    async def follow(self, log: EventLog) -> None:
        """Take in the log as it grows, for ever."""
        async for recorded in log.follow():
            self.take(recorded)

    def take(self, recorded: Recorded) -> None:
        event = recorded.event
        if event is not None:
            state = self.runs.get(event.run_id)
            if state is not None:
                state.apply(event, recorded.at)
            elif event.HasField("run_started"):
                self.runs[event.run_id] = self._begin(event, recorded.at)
            self.ring(event.run_id)
        self._sequence = recorded.sequence
        for sequence, arrival in self._arrivals:
            if sequence <= self._sequence and not arrival.done():
                arrival.set_result(None)
        self._arrivals = [waiting for waiting in self._arrivals if not waiting[1].done()]

    async def reach(self, sequence: int) -> None:
        """Return once everything up to ``sequence`` is taken in."""
        if self._sequence < sequence:
            arrival = asyncio.get_running_loop().create_future()
            self._arrivals.append((sequence, arrival))
            await arrival

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
