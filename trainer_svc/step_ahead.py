"""Take the next step of a run while the event that it follows from is being written.

A step computes its event from one state of the run and writes nothing to the log, so that one which is begun too early
costs time and no more. Its event is used only if the run then is in the very state that was expected.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from labelloop.events.v1.events_pb2 import Event

from trainer_svc.domain.policy import ToTake, Wait, next_step
from trainer_svc.domain.run_state import RunState

Take = Callable[[RunState, ToTake], Awaitable[Event]]


@dataclass(frozen=True)
class _Begun:
    """A step that was begun, after how many events of its run, and the event to come of it."""

    step: ToTake
    event_count: int
    event: asyncio.Task[Event]


class StepAhead:
    """The next step of one run, at most one at a time. ``take`` carries a step out and returns its event."""

    def __init__(self, take: Take) -> None:
        self._take = take
        self._begun: _Begun | None = None

    def begin(self, expected: RunState | None) -> None:
        """Begin the step that follows from the state that a run is expected to be in next; None if that is unknown."""
        assert self._begun is None, "the step before was taken or given up"
        if expected is None or isinstance(step := next_step(expected), Wait):
            return
        event = asyncio.ensure_future(self._take(expected, step))
        self._begun = _Begun(step, expected.event_count, event)

    async def take(self, state: RunState, step: ToTake) -> Event:
        """Return the event of a step, which was begun before if ``state`` is the expected one, or is taken now."""
        begun = self._begun
        if begun is None or (begun.step, begun.event_count) != (step, state.event_count):
            await self.give_up()
            return await self._take(state, step)
        self._begun = None
        return await begun.event

    async def give_up(self) -> None:
        """Cancel the step that was begun, if any, and return once it has ended."""
        begun, self._begun = self._begun, None
        if begun is None:
            return
        begun.event.cancel()
        await asyncio.wait([begun.event])
        if not begun.event.cancelled():
            begun.event.exception()  # what it failed at is no longer of interest
