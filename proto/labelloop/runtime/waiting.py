"""Say what is waited for once that takes some seconds: in the log, as a metric, and as the problem of a run.

Work on the broker, the artifact store and the scorers is repeated for as long as they are away or full. That must not
look like work.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import structlog
from prometheus_client.core import Metric

from labelloop.observability import metrics

SAY_AFTER_S = 5.0
_LOOK_EVERY_S = 1.0
_LOG_EVERY_S = 60.0

Tell = Callable[[str], None]

log = structlog.get_logger()


class Waits:
    """The waits of this process that are going on. Logs each thing that is waited for once a minute, not each wait."""

    def __init__(self) -> None:
        self._all: list[Wait] = []
        self._logged_at: dict[str, float] = {}
        metrics.watch(self, Waits._gauge)

    def begin(self, wait: Wait) -> None:
        self._all.append(wait)

    def end(self, wait: Wait) -> None:
        self._all.remove(wait)
        if wait.what in self._logged_at and not any(other.what == wait.what and other.is_long for other in self._all):
            del self._logged_at[wait.what]
            log.info("waiting_over", what=wait.what, waited_s=round(wait.seconds))

    def report(self, wait: Wait) -> None:
        """Log what is waited for, unless that was done within the last minute."""
        now = asyncio.get_running_loop().time()
        if now - self._logged_at.get(wait.what, -_LOG_EVERY_S) >= _LOG_EVERY_S:
            self._logged_at[wait.what] = now
            log.warning("waiting", what=wait.what, problem=wait.problem, for_s=round(wait.seconds))

    def _gauge(self) -> Iterator[Metric]:
        text = "Seconds for which something has been waited for, from five on; what is there has no value."
        yield metrics.gauge("labelloop_waiting_seconds", text, "what", self.oldest_s())

    def began(self) -> dict[str, float]:
        """Return each sentence that long waits say, and when the first of them began, in seconds since 1970."""
        found: dict[str, float] = {}
        for wait in list(self._all):
            if wait.is_long:
                found[wait.sentence] = min(wait.began_at, found.get(wait.sentence, wait.began_at))
        return found

    def oldest_s(self) -> dict[str, float]:
        """Return how long each thing has been waited for, those that were just begun left out; for any thread."""
        found: dict[str, float] = {}
        for wait in list(self._all):
            if wait.is_long:
                found[wait.what] = max(wait.seconds, found.get(wait.what, 0.0))
        return found


@dataclass(eq=False)
class Wait:
    """One wait.

    Attributes:
        what: What for, such as ``the broker``.
        problem: Why it is not there, as far as is known; empty if it is, and the work is only long.
        is_told: Whether ``problem`` is a whole sentence already.
        began_at: When it began, in seconds since 1970.
    """

    what: str
    problem: str = "it does not answer"
    is_told: bool = False
    began_at: float = field(default_factory=time.time)
    _clock: Callable[[], float] = field(default_factory=lambda: asyncio.get_running_loop().time)
    _since_s: float = field(init=False)

    def __post_init__(self) -> None:
        self._since_s = self._clock()

    @property
    def seconds(self) -> float:
        return self._clock() - self._since_s

    @property
    def sentence(self) -> str:
        return self.problem if self.is_told else f"waits for {self.what}: {self.problem}"

    @property
    def is_long(self) -> bool:
        return bool(self.problem) and self.seconds >= SAY_AFTER_S


WAITS = Waits()


class _Told:
    """Tells the sentences of all waits in a context together, whenever one changes."""

    def __init__(self, tell: Tell) -> None:
        self._tell, self._by_wait, self._last = tell, dict[int, str](), ""

    def say(self, wait: Wait, message: str) -> None:
        self._by_wait.pop(id(wait), None)
        if message:
            self._by_wait[id(wait)] = message
        text = "; ".join(dict.fromkeys(self._by_wait.values()))
        if text != self._last:
            self._last = text
            self._tell(text)


_TOLD: ContextVar[_Told | None] = ContextVar("told", default=None)


def tell_waits_to(tell: Tell) -> None:
    """Have ``tell`` called with what this task waits for, if that takes long, and with "" when it no longer does."""
    _TOLD.set(_Told(tell))


@contextmanager
def waiting(what: str, describe: Callable[[], str] | None = None) -> Iterator[Wait]:
    """Say what is waited for if the block takes longer than ``SAY_AFTER_S``, and again when that changes.

    Args:
        what: What is waited for, also the label of the metric.
        describe: Returns the sentence to say now, with what to do; empty if the block is at work. By default
            ``problem`` of the wait is said.
    """
    wait, told, loop = Wait(what, is_told=describe is not None), _TOLD.get(), asyncio.get_running_loop()
    timers: list[asyncio.TimerHandle] = []

    def look() -> None:
        wait.problem = describe() if describe else wait.problem
        if wait.is_long:
            WAITS.report(wait)
        if told:
            told.say(wait, wait.sentence)
        timers[:] = [loop.call_later(min(SAY_AFTER_S, _LOOK_EVERY_S), look)]

    timers[:] = [loop.call_later(SAY_AFTER_S, look)]
    wait.problem = "" if describe else wait.problem
    WAITS.begin(wait)
    try:
        yield wait
    finally:
        timers[0].cancel()
        WAITS.end(wait)
        if told:
            told.say(wait, "")
