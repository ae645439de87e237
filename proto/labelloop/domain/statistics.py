"""Quantify the confidence in measured proportions. Pure functions."""

from __future__ import annotations

import math
from statistics import NormalDist

_CONFIDENCE = 0.95
_UNEVEN = 1.5  # times the share of each class in a population of equally frequent ones
_MOST = 2 / 3
GUESSING = "by guessing the most frequent class"


def wilson_interval(correct: int, total: int) -> tuple[float, float]:
    """Return the 95 per cent interval of a proportion (Wilson 1927), for ``total >= 1``; its ends lie in [0, 1]."""
    z = NormalDist().inv_cdf(0.5 + _CONFIDENCE / 2)
    share = correct / total
    centre = share + z * z / (2 * total)
    spread = z * (share * (1 - share) / total + z * z / (4 * total * total)) ** 0.5
    scale = 1 + z * z / total
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


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
