"""Quantify the confidence in measured proportions. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from statistics import NormalDist

_CONFIDENCE = 0.95
_UNEVEN = 1.5  # times the share of each class in a population of equally frequent ones
_MOST = 2 / 3
_EXACT_MAX = 200  # samples of the rarer kind
_REACH = 3.0  # samples; the two intervals' ends differ by less
_BISECTIONS = 26
_TERMS = 10_000
_PRECISION = 1e-12
_TINY = 1e-300
GUESSING = "by guessing the most frequent class"


def wilson_interval(correct: int, total: int) -> tuple[float, float]:
    """Return the 95 per cent interval of a proportion (Wilson 1927), for ``total >= 1``; its ends lie in [0, 1]."""
    z = NormalDist().inv_cdf(0.5 + _CONFIDENCE / 2)
    share = correct / total
    centre = share + z * z / (2 * total)
    spread = z * (share * (1 - share) / total + z * z / (4 * total * total)) ** 0.5
    scale = 1 + z * z / total
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


@lru_cache(maxsize=4_096)
def exact_interval(correct: int, total: int) -> tuple[float, float]:
    """Return the 95 per cent interval of a proportion (Clopper and Pearson 1934), for ``total >= 1``.

    It holds the true proportion in at least 95 of 100 samplings, of however few samples. Beyond 200 samples of either
    kind it is Wilson's interval, whose ends then differ by less than a fiftieth of the width.
    """
    near_low, near_high = wilson_interval(correct, total)
    wrong = total - correct
    if min(correct, wrong) > _EXACT_MAX:
        return near_low, near_high
    tail, reach = (1 - _CONFIDENCE) / 2, _REACH / total
    low, high = 0.0, 1.0
    if correct:
        low = _root(lambda share: _beta_share(correct, wrong + 1, share) - tail, near_low, reach)
    if wrong:
        high = _root(lambda share: _beta_share(correct + 1, wrong, share) - (1 - tail), near_high, reach)
    return low, high


def _root(rising: Callable[[float], float], near: float, reach: float) -> float:
    """Find by bisection where ``rising`` is 0, within ``reach`` of ``near`` and in [0, 1]."""
    low, high = max(0.0, near - reach), min(1.0, near + reach)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < 0 else (low, middle)
    return (low + high) / 2


def _beta_share(a: int, b: int, x: float) -> float:
    """Compute the regularized incomplete beta function: the probability of ``a`` or more of ``a + b - 1`` at ``x``."""
    if not 0 < x < 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # where the fraction converges slowly
        return 1 - _beta_share(b, a, 1 - x)
    front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    return math.exp(front) * _beta_fraction(a, b, x) / a


def _beta_fraction(a: int, b: int, x: float) -> float:
    """Evaluate the continued fraction of the incomplete beta function (Lentz 1976)."""
    numerator, denominator = 1.0, _apart_from_zero(1 - (a + b) * x / (a + 1))
    denominator = 1 / denominator
    fraction = denominator
    for m in range(1, _TERMS):
        for factor in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            denominator = 1 / _apart_from_zero(1 + factor * denominator)
            numerator = _apart_from_zero(1 + factor / numerator)
            fraction *= denominator * numerator
        if abs(denominator * numerator - 1) < _PRECISION:
            break
    return fraction


def _apart_from_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY


def tells_little(baseline: float, class_count: int) -> bool:
    """Return whether classes are so imbalanced that an accuracy tells little without its majority baseline.

    They are if the most frequent class has a share of at least 1.5 times ``1 / class_count``, or of two thirds.

    Args:
        baseline: Share of the most frequent class in what the accuracy was measured on, in [0, 1]; 0 if not known.
        class_count: Number of classes of the pool.
    """
    return baseline > 0 and baseline >= min(_UNEVEN / max(class_count, 1), _MOST)


def fewest_to_show(share: float, confidence: float) -> int:
    """Return how many correct samples without an error show that ``share`` of an infinite population is correct.

    The rule of three (Hanley and Lippman-Hand 1983), for ``share`` in (0, 1).
    """
    return math.ceil(math.log(1 - confidence) / math.log(share) - 1e-9)
