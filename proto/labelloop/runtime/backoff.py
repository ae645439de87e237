"""Compute the pauses between tries: each twice as long as the one before, up to a limit."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from tenacity import RetryCallState

_DOUBLINGS_MAX = 64  # beyond any limit in use, and far from where a float overflows


@dataclass(frozen=True)
class Backoff:
    """Pauses that double with each failed try. Tenacity takes it as its ``wait``.

    Attributes:
        first_s: Seconds to pause after the first try.
        most_s: Seconds that no pause exceeds.
        jitter_s: Up to this many seconds are added at random, so that several clients do not try again together.
    """

    first_s: float
    most_s: float
    jitter_s: float = 0.0

    def pause_s(self, tries: int) -> float:
        """Return seconds to pause after the ``tries``-th failed try in a row, counted from 1."""
        doubled_s = math.ldexp(self.first_s, min(tries - 1, _DOUBLINGS_MAX))
        return min(doubled_s + random.uniform(0, self.jitter_s), self.most_s)

    def __call__(self, state: RetryCallState) -> float:
        return self.pause_s(state.attempt_number)
