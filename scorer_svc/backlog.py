"""How long what was taken on will take, so that what would come too late is refused at once. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from labelloop.wire.errors import LimitExceeded

_DELAY_MAX_S = 0.1
_PACE_S = 1e-9  # a value, until the first is measured
_NEW_SHARE = 0.2


class Backlog:
    """Work in values, those that a model takes or computes of an image where those are more, that one thread does in
    turn."""

    def __init__(self) -> None:
        self._values = 0
        self._pace_s = _PACE_S

    @property
    def delay_s(self) -> float:
        """Until the work taken on so far is done."""
        return self._values * self._pace_s

    @contextmanager
    def taken(self, values: int) -> Iterator[None]:
        """So many values are to do until this is left. LimitExceeded where they would have to wait too long."""
        delay_s = self.delay_s
        if delay_s > _DELAY_MAX_S:
            message = f"there is work for {delay_s:.3f} s already: try again after that, or elsewhere"
            raise LimitExceeded("OVERLOADED", message, retry_after_s=delay_s, delay_s=f"{delay_s:.3f}")
        self._values += values
        try:
            yield
        finally:
            self._values -= values

    def note(self, values: int, seconds: float) -> None:
        """That many values took ``seconds`` of the thread."""
        self._pace_s += _NEW_SHARE * (seconds / values - self._pace_s)
