"""Bound scores, given approximate logits and their error. Pure functions.

Let ``e`` be the error of a sample: the difference of two of its logits differs from that of the model's by at most
``e``. Then its score by the model is at least:

- least confidence: ``1 / (1 + odds * exp(e))``, and most confident: ``-1 / (1 + odds * exp(-e))``. The odds against a
  class, ``1 / p - 1``, are the sum of ``exp(other logit - own logit)`` over the other classes, and change by at most
  the factor ``exp(e)``: those against the class that had the lowest do not exceed that, and no other class gets lower
  ones than its own divided by it;
- margin: ``(1 - exp(-gap)) / (1 + odds * exp(e))``, where the gap is that of the two largest logits less ``e``, but at
  least 0. A margin is the largest probability times ``1 - exp(-gap)``; the gap of the model's logits is no smaller: if
  another class has the largest of them, the gap was at most ``e``;
- entropy: ``-(entropy + slope * e)``, see :func:`slope`.

It is at most what the same terms are with ``-e`` in place of ``e``, for the same reasons: the model's gap is at most
``gap + e``. Bounds include what rounding can change, see :func:`rounding_slack`.
"""

from __future__ import annotations

import math

import numpy as np
from labelloop.scorer.v1.scorer_pb2 import Strategy
from numpy.typing import NDArray

_UNIT_ROUNDOFF = 2.0**-24  # of float32


def lowest_scores(
    logits: NDArray[np.float64], error: NDArray[np.float64], strategy: Strategy.ValueType, slack: float
) -> NDArray[np.float64]:
    """Bound scores ``[n]`` from below, from logits ``[classes, n]``, as the kernel does but for its rounding.

    With ``error`` and ``slack`` negative, bound them from above.
    """
    second, largest = np.sort(logits, axis=0)[-2:]
    powers = np.exp(logits - largest)
    total, greater = powers.sum(axis=0), np.exp(error)
    match strategy:
        case Strategy.STRATEGY_LEAST_CONFIDENCE:
            return np.asarray(1 / (1 + (total - 1) * greater) - slack * np.maximum(greater, 1))
        case Strategy.STRATEGY_MOST_CONFIDENT:
            return np.asarray(-1 / (1 + (total - 1) / greater) - slack * np.maximum(1 / greater, 1))
        case Strategy.STRATEGY_MARGIN:
            part = -np.expm1(-np.maximum(largest - second - error, 0))
            return np.asarray(part / (1 + (total - 1) * greater) - slack * np.maximum(greater, 1))
        case Strategy.STRATEGY_ENTROPY:
            entropy = np.log(total) - (powers * (logits - largest)).sum(axis=0) / total
            return np.asarray(-entropy - slope(strategy, len(logits)) * error - slack)
    raise ValueError(f"{Strategy.Name(strategy)} does not rank by a model's answers")


def rounding_slack(strategy: int, classes: int) -> float:
    """Return what rounding in float32 between logits and score can change, in the kernel and in the model together.

    In units of u = 2 ** -24, to first order, for C classes. Where odds are multiplied by E = exp(e), so is this: in
    lower bounds for least confidence and margin, and in upper ones for most confident. In others the factor is less
    than 1, and E stands for 1. A rounding is 1; exp is off by 8 of it, in the kernel
    (:mod:`scorer_svc.prefilter.elementary_code`) and in the model (4 units in the last place).

    The model: the difference d of logits is off by 1 of it, which changes its power by d exp(-d), at most 1 / e; the
    sum by 1 for each addition. A probability, of which numerator and powers are off by 8 and the quotient by 1, is off
    by at most 1.4 C + 17 of it, a margin by 1 more.

    The kernel's odds: the powers are off by 8 of the odds, and by 1 / e for each difference; the sum by C - 1 of
    itself. Multiplied by E, which is off by 9, as a quotient of exp, and with x = odds E, that is at most
    20 x + (C - 1) (1.4 E + x) in x. It changes 1 / (1 + x) by that divided by (1 + x) ** 2, where x / (1 + x) ** 2 is
    at most 1 / 4, and the last two operations by 2: in all by 7 + 1.7 C E. With the model's and 1 for a subtraction
    that is less than (3.1 C + 26) E.

    The margin's factor 1 - exp(-gap): the gap is off by 1 of the difference, at most gap + e, and by 1 of itself, which
    changes its power by at most 1 + e, and e is less than E; the power is off by 8, and the factor by 1, the product
    by 1: 12 E more, less than (3.1 C + 38) E.

    The entropy: by the model, a term p log p is off by (1.4 C + 17) (\\|log p\\| + 1) p for what p is off by, by 5 of
    itself for the logarithm and the product, and the sum by C of itself. With L = log C, which no entropy exceeds, that
    is at most (2.4 C + 22) L + 1.4 C + 17. By the kernel, powers times differences, in all at most L times the total,
    are off by 10 of it, by 0.6 C for the powers' changes and by C L for the sum; the total by 8 + 1.4 C of itself,
    which changes the quotient by that times L, and the logarithm by that; the logarithm by 2 + 6 L; quotient and
    differences by 4 L: at most (2.4 C + 28) L + 2 C + 10. Both are less than (5 C + 50) (L + 1).
    """
    if strategy == Strategy.STRATEGY_ENTROPY:
        return (5 * classes + 50) * (math.log(classes) + 1) * _UNIT_ROUNDOFF
    return (4 * classes + 40) * _UNIT_ROUNDOFF


def slope(strategy: int, classes: int) -> float:
    """Return how much an entropy can change if differences of logits change by at most 1; 0 for other strategies.

    If each logit changes by at most 1/2, and differences do not depend on what all logits have in common, it is half of
    the largest sum of magnitudes of the entropy's derivatives. That is the mean distance of -log p from its mean, at
    most its standard deviation, whose square is at most 1 + log(classes - 1) ** 2 / 4 (Reeb and Wolf 2015, lemma 8).
    """
    return math.sqrt(1 + math.log(classes - 1) ** 2 / 4) / 2 if strategy == Strategy.STRATEGY_ENTROPY else 0.0
