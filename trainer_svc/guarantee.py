"""Auto-labels that are right as often as stated: what an audit shows. Pure.

A random audit of the samples that are left says how often the model is right above each confidence. The threshold is
the lowest whose auto-labels are shown to meet the target. Looking at several thresholds costs nothing where they are
tested in an order fixed beforehand, each at the whole error allowed, until the first one fails (fixed-sequence testing:
Bauer 1991; for thresholds of a model, Learn then Test: Angelopoulos and others 2021). The order is from the strictest
threshold at which passing is possible on down; it hangs on the confidences alone, not on who was right. In simulations
this passes far more often than splitting the error between thresholds (Bonferroni), or between starting points (Wiens
2003).

What is bounded are the wrong ones among the samples that will be auto-labelled, not among those that were audited: the
two together are a finite population of which the audit drew some. The bound is the one of Clopper and Pearson 1934 for
such draws (hypergeometric: Buonaccorsi 1987), which is theirs where many more are left than were audited.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from labelloop.wire.intervals import fewest_to_show
from numpy.typing import NDArray

_LOOKS = 20
_BISECTIONS = 60
Confidences = NDArray[np.float32]


@dataclass(frozen=True)
class Verdict:
    """``threshold`` is None where nothing can be shown; of ``audited_above`` samples at it or above, ``correct_above``
    are right; the accuracy of the ``count`` samples left there is ``lower_bound`` at least; ``looks`` thresholds were
    tested."""

    threshold: float | None
    count: int
    audited_above: int
    correct_above: int
    lower_bound: float
    looks: int


def certify(
    confidence: Confidences, correct: NDArray[np.bool_], left: Confidences, *, target: float, level: float
) -> Verdict:
    """From a random audit, ``[n]`` each, the lowest threshold at which the accuracy of the samples that are ``left``,
    of which these are the confidences ``[m]``, is shown to be ``target`` at least, wrongly so with a probability of
    1 - ``level`` at most."""
    order = np.argsort(-confidence, kind="stable")
    ordered, right = confidence[order], np.cumsum(correct[order])
    best, looks = Verdict(None, 0, 0, 0, 0.0, 0), 0
    for count, to_label in _steps(ordered, np.sort(left), target, level):
        looks += 1
        bound = bound_of_the_rest(int(right[count - 1]), count, to_label, level)
        if bound < target:
            break
        best = Verdict(float(ordered[count - 1]), to_label, count, int(right[count - 1]), bound, looks)
    return replace(best, looks=looks)


def _steps(ordered: Confidences, left: Confidences, target: float, level: float) -> list[tuple[int, int]]:
    """How many of the audit, and of what is ``left``, lie at each threshold to test or above it, fewest first: samples
    of one confidence stay together. Those at which not even an audit without a mistake would pass are left out."""
    fewest = fewest_to_show(target, level)
    if len(ordered) < fewest:
        return []
    wanted = np.linspace(len(ordered), fewest, _LOOKS).astype(int)
    ascending = -ordered
    whole = sorted({int(each) for each in np.searchsorted(ascending, ascending[wanted - 1], side="right")})
    steps = [(count, len(left) - int(np.searchsorted(left, ordered[count - 1]))) for count in whole]
    return [step for step in steps if bound_of_the_rest(step[0], *step, level) >= target]


def bound_of_the_rest(correct: int, audited: int, left: int, level: float) -> float:
    """The lower bound of the accuracy on ``left`` samples of a population, of which ``audited`` others were drawn at
    random and ``correct`` of these are right: more are wrong than it says with a probability of 1 - ``level`` at
    most. 1 where none is left."""
    wrong = audited - correct
    low, high = (
        wrong,
        wrong + left,
    )  # wrong ones of all: what is seen is likely enough at ``low``, and below ``high + 1``
    while low < high:
        middle = (low + high + 1) // 2
        if _at_most(wrong, audited, left, middle) > 1 - level:
            low = middle
        else:
            high = middle - 1
    return 1 - (low - wrong) / left if left else 1.0


def _at_most(seen: int, audited: int, left: int, wrong: int) -> float:
    """The probability that ``seen`` or fewer of ``wrong`` samples are among the ``audited`` (hypergeometric)."""
    some = range(max(0, wrong - left), min(seen, audited, wrong) + 1)
    all_ways = _log_ways(audited + left, wrong)
    return math.fsum(math.exp(_log_ways(audited, k) + _log_ways(left, wrong - k) - all_ways) for k in some)


def _log_ways(count: int, chosen: int) -> float:
    return math.lgamma(count + 1) - math.lgamma(chosen + 1) - math.lgamma(count - chosen + 1)


def lower_bound(correct: int, total: int, level: float) -> float:
    """The one-sided lower bound of a share (Clopper and Pearson 1934): the smallest that would give ``correct`` or more
    of ``total`` with a probability of 1 - ``level``."""
    if not correct:
        return 0.0
    wrong = np.arange(0, total - correct + 1)
    ways = np.array([_log_ways(total, k) for k in wrong.tolist()])
    low, high = 0.0, correct / total
    for _ in range(_BISECTIONS):
        share = (low + high) / 2
        terms = ways + wrong * math.log1p(-share) + (total - wrong) * math.log(share)
        if float(np.exp(terms).sum()) < 1 - level:
            low = share
        else:
            high = share
    return low


def audit_size_needed(target: float, level: float, candidates: int) -> int:
    """The smallest audit of ``candidates`` that can show anything; all of them where none can."""
    fewest = fewest_to_show(target, level)
    sizes = range(fewest, candidates)
    return next((n for n in sizes if bound_of_the_rest(n, n, candidates - n, level) >= target), max(candidates, fewest))


def guarantee_fault(target: float, level: float, audit_size: int, candidates: int) -> str:
    """Why a guarantee cannot be given, for people; empty where it can."""
    if not 0 < target < 1 or not 0 < level < 1:
        return f"the target accuracy and its confidence must lie between 0 and 1, not {target} and {level}"
    if audit_size >= candidates:
        return f"the audit would take all of the {candidates} samples that are left: lower it, or the budget"
    if bound_of_the_rest(audit_size, audit_size, candidates - audit_size, level) < target:
        return (
            f"an audit of {audit_size} of {candidates} samples cannot show an accuracy of {target} with a confidence "
            f"of {level}, even with no mistake among them: audit "
            f"{audit_size_needed(target, level, candidates)} at least"
        )
    return ""
