"""Refuse work at once that would be done too late, by estimating the backlog. No I/O."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from labelloop.errors import LimitExceeded

_DELAY_MAX_S = 0.1
_PACE_S = 1e-10  # per multiply-add, until it is measured
_NEW_SHARE = 0.2


class Backlog:
    """Estimates how long one thread takes for its pending work.

    Work is counted in multiply-adds: see :mod:`scorer_svc.models.cost`.
    """

    def __init__(self) -> None:
        self._work = 0
        self._pace_s = _PACE_S

    @property
    def delay_s(self) -> float:
        """Seconds until the work accepted so far is done."""
        return self._work * self._pace_s

    @contextmanager
    def taken(self, work: int) -> Iterator[None]:
        """Count ``work`` as pending within the context. LimitExceeded if it would have to wait too long."""
        delay_s = self.delay_s
        if delay_s > _DELAY_MAX_S:
            message = f"there is work for {delay_s:.3f} s already: try again after that, or elsewhere"
            raise LimitExceeded("OVERLOADED", message, retry_after_s=delay_s, delay_s=f"{delay_s:.3f}")
        self._work += work
        try:
            yield
        finally:
            self._work -= work

    def note(self, work: int, seconds: float) -> None:
        """Record that so much work took the thread so many seconds."""
        self._pace_s += _NEW_SHARE * (seconds / work - self._pace_s)
