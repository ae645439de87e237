"""Auto-labels that are right as often as stated: what an audit shows. Pure.

A random audit of the samples that are left says how often the model is right above each confidence. The threshold is
the lowest whose accuracy is shown to meet the target. Looking at several thresholds costs nothing where they are tested
in an order fixed beforehand, each at the whole error allowed, until the first one fails (fixed-sequence testing: Bauer
1991; for thresholds of a model, Learn then Test: Angelopoulos and others 2021). The order is from the strictest
threshold at which passing is possible on down; it hangs on the confidences alone, not on who was right. In simulations
this passes far more often than splitting the error between thresholds (Bonferroni), or between starting points (Wiens
2003).

The bound (Clopper and Pearson 1934) is for samples like the audited ones: all candidates at the threshold or above it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

_LOOKS = 20
_BISECTIONS = 60


@dataclass(frozen=True)
class Verdict:
    """``threshold`` is None where nothing can be shown; of ``audited_above`` samples at it or above, ``correct_above``
    are right; their accuracy is ``lower_bound`` at least; ``looks`` thresholds were tested."""

    threshold: float | None
    audited_above: int
    correct_above: int
    lower_bound: float
    looks: int


def certify(confidence: NDArray[np.float32], correct: NDArray[np.bool_], *, target: float, level: float) -> Verdict:
    """From a random audit, ``[n]`` each, the lowest threshold at which the accuracy is shown to be ``target`` at least,
    wrongly so with a probability of 1 - ``level`` at most."""
    order = np.argsort(-confidence, kind="stable")
    ordered, right = confidence[order], np.cumsum(correct[order])
    best, looks = Verdict(None, 0, 0, 0.0, 0), 0
    for count in _counts_to_test(ordered, target, 1 - level):
        looks += 1
        bound = lower_bound(int(right[count - 1]), count, level)
        if bound < target:
            break
        best = Verdict(float(ordered[count - 1]), count, int(right[count - 1]), bound, looks)
    return replace(best, looks=looks)


def _counts_to_test(ordered: NDArray[np.float32], target: float, error: float) -> list[int]:
    """How many of the audit lie at each threshold or above, fewest first: samples of one confidence stay together."""
    fewest = _fewest(target, error)
    if len(ordered) < fewest:
        return []
    wanted = np.linspace(len(ordered), fewest, _LOOKS).astype(int)
    ascending = -ordered
    whole = np.searchsorted(ascending, ascending[wanted - 1], side="right")
    return sorted({int(count) for count in whole})


def lower_bound(correct: int, total: int, level: float) -> float:
    """The one-sided lower bound of a share (Clopper and Pearson 1934): the smallest that would give ``correct`` or more
    of ``total`` with a probability of 1 - ``level``."""
    if not correct:
        return 0.0
    wrong = np.arange(0, total - correct + 1)
    ways = np.array([math.lgamma(total + 1) - math.lgamma(k + 1) - math.lgamma(total - k + 1) for k in wrong.tolist()])
    low, high = 0.0, correct / total
    for _ in range(_BISECTIONS):
        share = (low + high) / 2
        terms = ways + wrong * math.log1p(-share) + (total - wrong) * math.log(share)
        if float(np.exp(terms).sum()) < 1 - level:
            low = share
        else:
            high = share
    return low


def _fewest(target: float, error: float) -> int:
    """How many right answers without a wrong one show that ``target`` is met."""
    return math.ceil(math.log(error) / math.log(target) - 1e-9)


def audit_size_needed(target: float, level: float) -> int:
    """The smallest audit that can show anything."""
    return _fewest(target, 1 - level)


def guarantee_fault(target: float, level: float, audit_size: int, candidates: int) -> str:
    """Why a guarantee cannot be given, for people; empty where it can."""
    if not 0 < target < 1 or not 0 < level < 1:
        return f"the target accuracy and its confidence must lie between 0 and 1, not {target} and {level}"
    needed = audit_size_needed(target, level)
    if audit_size < needed:
        return (
            f"an audit of {audit_size} samples cannot show an accuracy of {target} with a confidence of {level}, even "
            f"with no mistake among them: audit {needed} at least"
        )
    if audit_size >= candidates:
        return f"the audit would take all of the {candidates} samples that are left: lower it, or the budget"
    return ""
