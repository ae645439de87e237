"""Say what work waits for once that takes more than a few seconds: in the log, as a metric, and of its run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import structlog

from labelloop.observability.metrics import WAITS

SAY_AFTER_S = 3.0
_LOOK_EVERY_S = 1.0

Tell = Callable[[str], None]


class _Told:
    """The sentences of all waits in a context, told together whenever one changes."""

    def __init__(self, tell: Tell) -> None:
        self._tell, self._by_wait = tell, dict[int, str]()

    def say(self, wait: object, problem: str) -> None:
        self._by_wait.pop(id(wait), None)
        if problem:
            self._by_wait[id(wait)] = problem
        self._tell("; ".join(dict.fromkeys(self._by_wait.values())))


_TOLD: ContextVar[_Told | None] = ContextVar("told", default=None)

log = structlog.get_logger()


@contextmanager
def told_of_waits(tell: Tell) -> Iterator[None]:
    """Call ``tell`` with what work in this context waits for, whenever that changes; with "" when all of it goes on."""
    before = _TOLD.set(_Told(tell))
    try:
        yield
    finally:
        _TOLD.reset(before)


@contextmanager
def waiting_for(what: str, describe: Callable[[], str], after_s: float | None = None) -> Iterator[None]:
    """Say from time to time what the block waits for, from ``after_s`` seconds on, by default ``SAY_AFTER_S``.

    Args:
        what: What is waited for, as a label of the metric, such as ``scorers``.
        describe: Returns the sentence to say now, with what to do; empty if the block is waiting for nothing.
    """
    wait = _Wait(what, describe, _TOLD.get())
    wait.look_in(SAY_AFTER_S if after_s is None else after_s)
    try:
        yield
    finally:
        wait.end()


class _Wait:
    def __init__(self, what: str, describe: Callable[[], str], told: _Told | None) -> None:
        self._what, self._describe, self._told = what, describe, told
        self._said = ""
        self._timer: asyncio.TimerHandle | None = None

    def look_in(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        self._say(self._describe())
        self.look_in(_LOOK_EVERY_S)

    def end(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._say("")

    def _say(self, problem: str) -> None:
        if problem == self._said:
            return
        if bool(problem) != bool(self._said):
            WAITS.labels(self._what).inc(1 if problem else -1)
        if problem:
            log.warning("waits", what=self._what, problem=problem)
        else:
            log.info("goes_on", what=self._what)
        self._said = problem
        if self._told:
            self._told.say(self, problem)
