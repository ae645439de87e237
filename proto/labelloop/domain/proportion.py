"""Say how large a share is, with as many digits as the samples that it was counted on justify. Pure functions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from labelloop.domain.statistics import exact_interval

RELIABLE_MIN = 30  # samples; of fewer, a share is shown as a range alone
_DIGITS_MAX = 2
_TINY = 1e-9  # what arithmetic may add to a round figure


@dataclass(frozen=True)
class Proportion:
    """The share of samples that are right, estimated from a part of them.

    Attributes:
        correct: Samples that are right, at most ``total``.
        total: Samples in all, at least 1.
    """

    correct: int
    total: int

    @property
    def value(self) -> float | None:
        """The share, in [0, 1]; None where so few samples give a range alone."""
        return None if self.only_range else self.correct / self.total

    @cached_property
    def _ends(self) -> tuple[float, float]:
        return exact_interval(self.correct, self.total)

    @property
    def low(self) -> float:
        return self._ends[0]

    @property
    def high(self) -> float:
        return self._ends[1]

    @property
    def only_range(self) -> bool:
        return self.total < RELIABLE_MIN

    @property
    def digits(self) -> int:
        """Decimal places of the per cent."""
        return 0 if self.only_range else digits_for(self.low, self.high)

    @property
    def headline(self) -> str:
        """The share in per cent, or the range that it lies in."""
        if self.value is None:
            return f"between {self._low()} % and {self._high()} %"
        return f"{self._middle(self.value)} %"

    @property
    def short(self) -> str:
        """The same for a cell of a table."""
        return f"{self._low()}–{self._high()} %" if self.only_range else self.headline

    @property
    def interval(self) -> str:
        """The 95 per cent interval, its ends rounded outwards."""
        return f"{self._low()} to {self._high()} %"

    def _middle(self, value: float) -> str:
        """Round the share, but never up to all or down to none."""
        unit = 10.0**-self.digits
        least, most = (unit if self.correct else 0.0), (100.0 if self.correct == self.total else 100.0 - unit)
        return f"{min(max(100 * value, least), most):.{self.digits}f}"

    def _low(self) -> str:
        return rounded_down(self.low, self.digits)

    def _high(self) -> str:
        return rounded_up(self.high, self.digits)


def digits_for(low: float, high: float) -> int:
    """Return the decimal places of a per cent: the first in which half its interval has a digit, at most two."""
    half = 50 * (high - low)
    return min(_DIGITS_MAX, max(0, -math.floor(math.log10(half)))) if half > 0 else _DIGITS_MAX


def rounded_down(share: float, digits: int) -> str:
    """Return a share in per cent without its sign, rounded down, as a lower bound must be."""
    scale = 10**digits
    return f"{math.floor(100 * share * scale + _TINY) / scale:.{digits}f}"


def rounded_up(share: float, digits: int) -> str:
    """Return a share in per cent without its sign, rounded up, as an upper bound must be."""
    scale = 10**digits
    return f"{math.ceil(100 * share * scale - _TINY) / scale:.{digits}f}"
