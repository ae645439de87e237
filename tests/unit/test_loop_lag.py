"""The lag of an event loop is measured, also while it is held, and told."""

from __future__ import annotations

import asyncio
import time
from threading import get_ident

import pytest
from labelloop.runtime import loop_lag as module
from labelloop.runtime.loop_lag import EVERY_S, LoopLag, LoopWatch, loop_lag
from structlog.testing import capture_logs

from tests.loop_holding import loop_not_held
from tests.patience import PATIENCE_S


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lag(clock: Clock) -> LoopLag:
    return LoopLag(window_s=60, now=clock)


def tick_after(lag: LoopLag, clock: Clock, *pauses_s: float) -> None:
    for pause_s in pauses_s:
        clock.now_s += pause_s
        lag.tick()
        lag.drop_old()


def test_a_loop_that_runs_on_time_is_not_late(lag: LoopLag, clock: Clock) -> None:
    tick_after(lag, clock, *[EVERY_S] * 10)
    assert lag.longest_s() == pytest.approx(0, abs=1e-6)


def test_the_longest_hold_within_the_window_counts(lag: LoopLag, clock: Clock) -> None:
    tick_after(lag, clock, EVERY_S + 3, EVERY_S + 1.5, EVERY_S)
    assert lag.longest_s() == pytest.approx(3)
    tick_after(lag, clock, *[EVERY_S] * round(58 / EVERY_S))
    assert lag.longest_s() == pytest.approx(3)
    tick_after(lag, clock, *[EVERY_S] * round(1.2 / EVERY_S))
    assert lag.longest_s() == pytest.approx(1.5)
    tick_after(lag, clock, *[EVERY_S] * round(2 / EVERY_S))
    assert lag.longest_s() == pytest.approx(0, abs=1e-6)


def test_a_hold_that_goes_on_counts(lag: LoopLag, clock: Clock) -> None:
    clock.now_s += EVERY_S + 150
    assert lag.going_on_s() == lag.longest_s() == pytest.approx(150)


async def test_a_held_loop_is_shown_and_the_log_says_by_what(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[float] = []
    monkeypatch.setattr(module, "_WATCH_EVERY_S", 0.01)
    monkeypatch.setattr(module, "_TOLD_S", 0.05)
    lag = LoopLag()
    with capture_logs() as logs, LoopWatch(lag, get_ident(), shown.append):
        ends_s = time.monotonic() + PATIENCE_S
        while not logs and time.monotonic() < ends_s:
            time.sleep(0.01)  # noqa: ASYNC251 - the loop is to be held
    [line] = logs[:1]
    assert (line["event"], line["log_level"]) == ("event_loop_held", "warning")
    assert any("test_a_held_loop_is_shown" in each for each in line["doing"])
    assert len(logs) == 1, "each hold is told once"
    assert max(shown) >= 0.05


async def hold(seconds: float) -> None:
    async with loop_not_held(most_s=0.1):
        await asyncio.sleep(EVERY_S)
        time.sleep(seconds)  # noqa: ASYNC251 - the fault that is looked for


async def test_a_test_fails_whose_loop_was_held() -> None:
    async with loop_not_held(most_s=PATIENCE_S):
        await asyncio.sleep(2 * EVERY_S)
    with pytest.raises(AssertionError, match=r"held for \d+\.\d+ s, but may be for 0\.1 s"):
        await hold(0.3 + EVERY_S)


async def test_watching_ends_with_its_context() -> None:
    before = asyncio.all_tasks()
    async with loop_lag():
        assert len(asyncio.all_tasks() - before) == 1
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
