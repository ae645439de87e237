"""A step that is begun before its turn: used where the run is as expected, and given up otherwise."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from labelloop.events.v1.events_pb2 import Event, RunFinished

from tests.unit.test_run_state import asked, begun, labelled
from trainer_svc.domain.policy import Finish, Fit, ToTake
from trainer_svc.domain.run_state import RunState
from trainer_svc.step_ahead import StepAhead


def ready() -> RunState:
    """A run whose first batch is labelled, so that a fit is its next step."""
    state = begun()
    asked(state, 0, 1, 2, 3)
    labelled(state, 0, 1, 2, 3)
    return state


class Steps:
    """Takes steps once told to, and notes them."""

    def __init__(self) -> None:
        self.taken: list[ToTake] = []
        self.ended: list[str] = []
        self.go = asyncio.Event()
        self.error: Exception | None = None

    async def take(self, state: RunState, step: ToTake) -> Event:
        self.taken.append(step)
        try:
            await self.go.wait()
            if self.error:
                raise self.error
        except asyncio.CancelledError:
            self.ended.append("cancelled")
            raise
        return Event(run_id=f"{len(self.taken)}", run_finished=RunFinished(reason="r"))


async def test_step_on_the_expected_state_is_not_taken_again() -> None:
    steps, state = Steps(), ready()
    ahead = StepAhead(steps.take)
    ahead.begin(state.as_it_stands())
    steps.go.set()
    assert (await ahead.take(state, Fit())).run_id == "1"
    assert steps.taken == [Fit()]


async def test_step_is_taken_anew_if_another_event_came_or_another_step_is_due() -> None:
    for state, step in ((replace(ready(), event_count=99), Fit()), (ready(), Finish("another"))):
        steps = Steps()
        ahead = StepAhead(steps.take)
        ahead.begin(ready())
        await asyncio.sleep(0)
        steps.go.set()
        assert (await ahead.take(state, step)).run_id == "2"
        assert steps.ended == ["cancelled"]


async def test_step_that_was_given_up_is_taken_anew() -> None:
    steps, state = Steps(), ready()
    ahead = StepAhead(steps.take)
    ahead.begin(state)
    await asyncio.sleep(0)
    await ahead.give_up()
    assert steps.ended == ["cancelled"]
    steps.go.set()
    assert (await ahead.take(state, Fit())).run_id == "2"


async def test_a_failure_counts_only_where_the_step_is_due() -> None:
    steps, state = Steps(), ready()
    ahead = StepAhead(steps.take)
    steps.error = ValueError("too many samples")
    steps.go.set()
    ahead.begin(state)
    with pytest.raises(ValueError, match="too many"):
        await ahead.take(state, Fit())
    ahead.begin(state)
    await asyncio.sleep(0)
    await ahead.give_up()  # and asyncio reports no error that nobody retrieved


async def test_nothing_is_begun_for_an_unknown_state_or_one_that_waits() -> None:
    steps = Steps()
    ahead = StepAhead(steps.take)
    ahead.begin(None)
    waiting = begun()
    asked(waiting, 0, 1)
    ahead.begin(waiting)
    await asyncio.sleep(0)
    assert steps.taken == []


async def test_step_ends_with_the_task_that_waits_for_it() -> None:
    steps, state = Steps(), ready()
    ahead = StepAhead(steps.take)
    ahead.begin(state)
    waiting = asyncio.ensure_future(ahead.take(state, Fit()))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert steps.ended == ["cancelled"]
