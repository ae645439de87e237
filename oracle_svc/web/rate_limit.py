"""Limit how often wrong tokens may be tried, with a bucket that they empty and time refills."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from labelloop.errors import LimitExceeded

AT_ONCE = 20
AGAIN_S = 3.0  # until one more try; 28,800 a day


class RateLimit:
    """One bucket for all clients, as addresses tell nothing if there is a proxy. ``now`` gives seconds."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._left, self._at = float(AT_ONCE), now()

    def check(self) -> None:
        """Raise LimitExceeded if no try is left; even the right token is not checked then."""
        if self._fill() < 1:
            wait_s = math.ceil((1 - self._left) * AGAIN_S)
            message = f"wrong tokens were tried too often: try again in {wait_s} s"
            raise LimitExceeded("TOO_MANY_ATTEMPTS", message, retry_after_s=wait_s)

    def note_wrong(self) -> None:
        self._left = self._fill() - 1

    def _fill(self) -> float:
        now = self._now()
        self._left, self._at = min(AT_ONCE, self._left + (now - self._at) / AGAIN_S), now
        return self._left
