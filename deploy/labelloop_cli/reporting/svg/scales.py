"""Map values to places in a picture, and choose round values to mark on an axis. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_STEPS = (1, 2, 5, 10)
_LOG_STEPS: tuple[tuple[int, ...], ...] = ((1, 2, 5), (1, 3), (1,))  # in each power of ten, densest first
_SAME = 1e-9  # relative to the larger value; values closer than this are the same
_NOTHING = {False: (0.0, 1.0), True: (1.0, 10.0)}


@dataclass(frozen=True)
class Scale:
    """Maps ``low`` to ``start`` and ``high`` to ``stop``, linearly or logarithmically.

    Attributes:
        step: Distance of the round values that the scale was extended to; 0 if it is still to be chosen.
    """

    low: float
    high: float
    start: float
    stop: float
    log: bool = False
    step: float = 0.0

    def at(self, value: float) -> float:
        """Return the place of ``value``, which must be drawable."""
        low, high, found = (math.log(each) if self.log else each for each in (self.low, self.high, value))
        return self.start + (found - low) / (high - low) * (self.stop - self.start)

    def ticks(self, most: int, *, whole: bool = False) -> list[float]:
        """Return round values within the scale, at most about ``most``; integers if ``whole``."""
        found = _log_ticks(self.low, self.high, most) if self.log else []
        if len(found) > 1:
            return found
        return multiples(self.low, self.high, self.step or step_of(self.low, self.high, most, whole=whole))


def drawable(value: float, *, log: bool = False) -> bool:
    """Return whether ``value`` is finite and, on a logarithmic scale, above 0."""
    return math.isfinite(value) and (not log or value > 0)


def extent(values: Iterable[float], *, log: bool = False, whole: bool = False) -> tuple[float, float]:
    """Return the least and greatest of drawable ``values``, widened around a single one; a default range for none."""
    found = list(values)
    if not found:
        return _NOTHING[log]
    low, high = min(found), max(found)
    if high - low > _SAME * max(abs(low), abs(high)):
        return low, high
    if log:
        return low / 2, high * 2
    room = max(0.1 * abs(low), 1.0 if whole or not low else 0.0)
    return low - room, high + room


def padded(low: float, high: float, share: float, *, log: bool = False) -> tuple[float, float]:
    """Extend the range by ``share`` of itself at each end."""
    if log:
        factor = (high / low) ** share
        return low / factor, high * factor
    room = share * (high - low)
    return low - room, high + room


def step_of(low: float, high: float, most: int, *, whole: bool = False) -> float:
    """Return the least of 1, 2 or 5 times a power of ten that divides the range into ``most`` parts or fewer."""
    rough = (high - low) / max(1, most)
    power = math.floor(math.log10(rough))
    step = next(found for each in _STEPS if (found := _times(each, 10.0**power)) >= rough * (1 - _SAME))
    return max(1.0, step) if whole else step


def outwards(low: float, high: float, step: float) -> tuple[float, float]:
    """Extend the range to multiples of ``step``."""
    return _times(math.floor(low / step + _SAME), step), _times(math.ceil(high / step - _SAME), step)


def multiples(low: float, high: float, step: float) -> list[float]:
    """Return the multiples of ``step`` within the range."""
    return [_times(each, step) for each in range(math.ceil(low / step - _SAME), math.floor(high / step + _SAME) + 1)]


def tick_texts(values: Sequence[float], *, log: bool = False) -> list[str]:
    """Format values with as many decimals as they need, on a linear scale the same number for all."""
    if log:
        return [f"{each:,.15g}" for each in values]
    span = max(map(abs, values), default=0.0)
    digits = next((n for n in range(12) if all(abs(round(v, n) - v) <= _SAME * span for v in values)), 12)
    return [f"{each:,.{digits}f}".replace("-", "\u2212") for each in values]


def _times(count: int, step: float) -> float:
    """Return a multiple of ``step``, rounded to remove the binary error of a product of decimal fractions."""
    return round(count * step, max(0, 1 - math.floor(math.log10(step)))) + 0.0


def _log_ticks(low: float, high: float, most: int) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found: list[float] = []
    for steps in _LOG_STEPS:
        values = (float(f"{each}e{power}") for power in powers for each in steps)
        found = [value for value in values if low * (1 - _SAME) <= value <= high * (1 + _SAME)]
        if len(found) <= most:
            return found
    return found[:: math.ceil(len(found) / most)]
