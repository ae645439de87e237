"""Load at a constant rate: a stall delays each call that is due during it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from typing import Any

import numpy as np
import pytest
from labelloop_cli.load.calls import Outcomes
from labelloop_cli.load.figures import figures, latency_by_share, throughput
from labelloop_cli.load.open_loop import IN_FLIGHT_MAX, constant_rate


class QuickTime(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer when idle."""

    def __init__(self) -> None:
        super().__init__()
        self._now_s = 0.0

    def time(self) -> float:
        return self._now_s

    def _run_once(self) -> None:
        loop: Any = self
        if not loop._ready and loop._scheduled:
            self._now_s = max(self._now_s, loop._scheduled[0].when())
        super()._run_once()  # type: ignore[misc]


def run(work: Coroutine[Any, Any, Outcomes]) -> Outcomes:
    with asyncio.Runner(loop_factory=QuickTime) as runner:
        return runner.run(work)


class Server:
    """Answers calls one by one, each after ``takes_s``; does nothing between ``stalls_s``."""

    def __init__(self, takes_s: float, stalls_s: tuple[float, float] = (0, 0)) -> None:
        self._takes_s, self._stalls_s, self._busy = takes_s, stalls_s, asyncio.Lock()
        self.open = self.open_most = 0

    async def send(self, index: int) -> tuple[str, bytes]:
        self.open += 1
        self.open_most = max(self.open_most, self.open)
        async with self._busy:
            start, end = self._stalls_s
            now = asyncio.get_running_loop().time()
            await asyncio.sleep((end - now if start <= now < end else 0) + self._takes_s)
        self.open -= 1
        return ("OK", b"answer") if index else ("UNAVAILABLE", b"")


def test_calls_are_sent_in_turn_at_the_requested_rate() -> None:
    outcomes = run(constant_rate(Server(0.001).send, 4, 100, 2))
    assert np.allclose(sorted(outcomes.sent_s), np.arange(200) / 100)
    assert np.allclose(outcomes.latency_s, 0.001)
    assert outcomes.answers == {(index, b"answer"): 50 for index in (1, 2, 3)}
    assert outcomes.status.count("UNAVAILABLE") == 50


def test_a_stall_delays_each_call_that_is_due_during_it() -> None:
    outcomes = run(constant_rate(Server(0.001, stalls_s=(1, 2)).send, 2, 100, 10))
    late = np.array(outcomes.latency_s) > 0.1
    assert 90 <= late.sum() <= 112  # a closed loop would count it once
    assert max(outcomes.latency_s) == pytest.approx(1.001)
    assert figures(outcomes, 1, Counter())["p99_ms"] > 890


def test_a_slow_server_has_growing_latency_and_a_bounded_queue() -> None:
    server = Server(0.1)
    outcomes = run(constant_rate(server.send, 2, 500, 10))
    assert len(outcomes.sent_s) == 5_000
    assert server.open_most == IN_FLIGHT_MAX
    last = int(np.argmax(outcomes.sent_s))
    assert outcomes.latency_s[last] == pytest.approx(500 - outcomes.sent_s[last], rel=0.01)


def test_latency_and_throughput_cover_answered_calls_only() -> None:
    outcomes = Outcomes()
    for sent_s in range(10):
        outcomes.add(sent_s, 0.5, "OK")
    outcomes.add(0, 100, "UNAVAILABLE")
    shown = figures(outcomes, 64, Counter())
    assert shown["p50_ms"] == shown["max_ms"] == 500
    assert shown["statuses"] == {"OK": 10, "UNAVAILABLE": 1}
    assert shown["rate_s"] == pytest.approx(10 / 100)
    assert shown["images_s"] == pytest.approx(64 * 10 / 100)
    assert throughput(outcomes)[1].sum() == pytest.approx(9 * 4)
    assert list(latency_by_share(outcomes)[1]) == [500] * 10


def test_figures_are_empty_without_an_answered_call() -> None:
    outcomes = Outcomes()
    outcomes.add(0, 1, "UNAVAILABLE")
    assert figures(outcomes, 1, Counter())["p99_ms"] is None
    assert not len(throughput(outcomes)[0])
    assert figures(Outcomes(), 1, Counter())["calls"] == 0
