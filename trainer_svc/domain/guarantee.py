"""Certify from a random audit that auto-labels meet a target accuracy. Pure functions.

A random audit of the unlabelled samples estimates the model's accuracy above each confidence. The chosen threshold is
the lowest whose auto-labels are shown to meet the target. Testing several thresholds needs no correction if they are
tested in an order fixed beforehand, each at the full error level, until the first one fails (fixed-sequence testing:
Bauer 1991; for thresholds of a model, Learn then Test: Angelopoulos and others 2021). The order starts at the strictest
threshold that can pass and goes down; it depends only on the confidences, not on which predictions were correct. In
simulations this passes far more often than splitting the error between thresholds (Bonferroni) or between starting
points (Wiens 2003).

The bound is on the errors among the samples that will be auto-labelled, not among the audited ones: together they form
a finite population from which the audit was drawn. It is the Clopper-Pearson (1934) bound for such draws
(hypergeometric: Buonaccorsi 1987), which becomes the ordinary one if many more samples are left than were audited.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from labelloop.domain.limits import AUDIT_MAX
from labelloop.domain.statistics import fewest_to_show
from numpy.typing import NDArray

_LOOKS = 20
_BISECTIONS = 60
Confidences = NDArray[np.float32]


@dataclass(frozen=True)
class AuditResult:
    """The certified threshold and the evidence for it.

    Attributes:
        threshold: Lowest certified confidence; None if nothing can be shown.
        count: Unlabelled samples with at least that confidence.
        audited_above: Audited samples with at least that confidence.
        correct_above: Those of them that the model predicted correctly.
        lower_bound: Lower bound of the accuracy on the ``count`` samples.
        looks: Number of thresholds tested.
    """

    threshold: float | None
    count: int
    audited_above: int
    correct_above: int
    lower_bound: float
    looks: int


def certify(
    confidence: Confidences, correct: NDArray[np.bool_], left: Confidences, *, target: float, level: float
) -> AuditResult:
    """Find the lowest threshold at which auto-labels are shown to have the target accuracy.

    Args:
        confidence: Confidences of the audited samples, ``[n]``.
        correct: Whether each audited sample was predicted correctly, ``[n]``.
        left: Confidences of the samples that are left to label, ``[m]``.
        target: Accuracy to show, at least.
        level: Confidence level; the result is wrong with a probability of at most 1 - ``level``.
    """
    order = np.argsort(-confidence, kind="stable")
    ordered, right = confidence[order], np.cumsum(correct[order])
    best, looks = AuditResult(None, 0, 0, 0, 0.0, 0), 0
    for count, to_label in _steps(ordered, np.sort(left), target, level):
        looks += 1
        bound = bound_of_the_rest(int(right[count - 1]), count, to_label, level)
        if bound < target:
            break
        best = AuditResult(float(ordered[count - 1]), to_label, count, int(right[count - 1]), bound, looks)
    return replace(best, looks=looks)


def _steps(ordered: Confidences, left: Confidences, target: float, level: float) -> list[tuple[int, int]]:
    """Count the audited and the ``left`` samples at or above each threshold to test, fewest first.

    Samples of equal confidence stay together. Thresholds at which even an audit without errors would fail are skipped.
    """
    fewest = fewest_to_show(target, level)
    if len(ordered) < fewest:
        return []
    wanted = np.linspace(len(ordered), fewest, _LOOKS).astype(int)
    ascending = -ordered
    whole = sorted({int(each) for each in np.searchsorted(ascending, ascending[wanted - 1], side="right")})
    steps = [(count, len(left) - int(np.searchsorted(left, ordered[count - 1]))) for count in whole]
    return [step for step in steps if bound_of_the_rest(step[0], *step, level) >= target]


def bound_of_the_rest(correct: int, audited: int, left: int, level: float) -> float:
    """Compute the lower bound of the accuracy on the ``left`` samples of a population.

    ``audited`` other samples of it were drawn at random, and ``correct`` of these are right. More errors than the bound
    allows have a probability of at most 1 - ``level``. Returns 1 if no samples are left.
    """
    wrong = audited - correct
    # Errors in the whole population: the audit is likely enough at ``low``, and not at ``high + 1``.
    low, high = (
        wrong,
        wrong + left,
    )
    while low < high:
        middle = (low + high + 1) // 2
        if _at_most(wrong, audited, left, middle) > 1 - level:
            low = middle
        else:
            high = middle - 1
    return 1 - (low - wrong) / left if left else 1.0


def _at_most(seen: int, audited: int, left: int, wrong: int) -> float:
    """Return the probability that at most ``seen`` of ``wrong`` samples are among the ``audited`` (hypergeometric)."""
    some = range(max(0, wrong - left), min(seen, audited, wrong) + 1)
    all_ways = _log_ways(audited + left, wrong)
    return math.fsum(math.exp(_log_ways(audited, k) + _log_ways(left, wrong - k) - all_ways) for k in some)


def _log_ways(count: int, chosen: int) -> float:
    return math.lgamma(count + 1) - math.lgamma(chosen + 1) - math.lgamma(count - chosen + 1)


def lower_bound(correct: int, total: int, level: float) -> float:
    """Compute the one-sided lower bound of a proportion (Clopper and Pearson 1934).

    It is the smallest proportion that gives ``correct`` or more of ``total`` with a probability of 1 - ``level``.
    """
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


def audit_size_needed(target: float, level: float, candidates: int) -> int | None:
    """Return the smallest audit of ``candidates`` that can show ``target``, if it finds no error; None if none can.

    An audit leaves at least one of the candidates, and has at most ``AUDIT_MAX`` samples.
    """
    sizes = range(fewest_to_show(target, level), min(candidates, AUDIT_MAX + 1))
    return next((n for n in sizes if bound_of_the_rest(n, n, candidates - n, level) >= target), None)


def guarantee_fault(target: float, level: float, audit_size: int, candidates: int) -> str:
    """Return a message for people that says why a guarantee cannot be given; empty if it can."""
    if not 0 < target < 1 or not 0 < level < 1:
        return f"the target accuracy and its confidence must lie between 0 and 1, not {target} and {level}"
    if audit_size < candidates:
        if bound_of_the_rest(audit_size, audit_size, candidates - audit_size, level) >= target:
            return ""
        fault = (
            f"an audit of {audit_size} of {candidates} samples cannot show an accuracy of {target} with a confidence "
            f"of {level}, even with no mistake among them"
        )
    else:
        fault = f"an audit of {audit_size} would take all of the {candidates} samples that are left"
    needed = audit_size_needed(target, level, candidates)
    if needed is not None:
        return f"{fault}: audit {needed} at least, and fewer than {candidates}"
    fewest = fewest_to_show(target, level)
    return (
        f"{fault}, and no audit of them can: it takes {fewest} samples at least, and some left over; lower the target, "
        "its confidence or the budget, or take a larger pool"
    )
