"""Compute scores from approximate logits, and bound their error. Pure functions.

Logits are ``[classes, n]``, so that every step runs along n, and may be overwritten.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from labelloop.scorer.v1.scorer_pb2 import Strategy
from numpy.typing import NDArray

from scorer_svc.strategies.uncertainty import Scores, two_largest

Logits = NDArray[np.float32]  # [classes, n]

ROUNDING = 1e-5  # float32's rounding between logits and score, here and in the model, with room to spare


def least_confidence(logits: Logits) -> Scores:
    """Score by the largest probability."""
    total: Scores = _powers(logits, logits.max(axis=0)).sum(axis=0)
    return np.reciprocal(total)


def most_confident(logits: Logits) -> Scores:
    """Score by the largest probability, negated."""
    return -least_confidence(logits)


def margin(logits: Logits) -> Scores:
    """Score by the largest probability less the second largest."""
    largest, second = two_largest(logits)
    scores: Scores = (1 - np.exp(second - largest)) / _powers(logits, largest).sum(axis=0)
    return scores


def entropy(logits: Logits) -> Scores:
    """Score by the entropy in nats, negated."""
    below = logits - logits.max(axis=0)
    powers = np.exp(below)
    total = powers.sum(axis=0)
    scores: Scores = (powers * below).sum(axis=0) / total - np.log(total)
    return scores


def _powers(logits: Logits, largest: Scores) -> Logits:
    np.subtract(logits, largest, out=logits)
    return np.exp(logits, out=logits)


ESTIMATES: dict[Strategy.ValueType, Callable[[Logits], Scores]] = {
    Strategy.STRATEGY_LEAST_CONFIDENCE: least_confidence,
    Strategy.STRATEGY_MARGIN: margin,
    Strategy.STRATEGY_ENTROPY: entropy,
    Strategy.STRATEGY_MOST_CONFIDENT: most_confident,
}


def reach(strategy: Strategy.ValueType, score: float, error: float, class_count: int) -> float:
    """Return the highest score that a sample can have by the model, if its estimate is ``score``.

    It is also the highest estimate of a sample whose score by the model is ``score``, and rises with ``score``.

    Args:
        strategy: One of ESTIMATES.
        score: An estimate, or a score by the model. Infinity is returned as it is.
        error: The most by which an estimated logit differs from the model's.
        class_count: Number of classes.
    """
    if not math.isfinite(score):
        return score
    match strategy:
        case Strategy.STRATEGY_LEAST_CONFIDENCE:
            return _confidence(score, -error, class_count)
        case Strategy.STRATEGY_MOST_CONFIDENT:
            return -_confidence(-score, error, class_count)
    return score + lipschitz(strategy, class_count) * error + ROUNDING


def _confidence(confidence: float, error: float, class_count: int) -> float:
    """Return the lowest largest probability if that of other logits, off by at most ``error``, is ``confidence``.

    With a negative ``error``, return the highest one.

    The odds against a class, ``1 / p - 1``, are the sum of ``exp(other logit - own logit)`` over the other classes.
    Each difference changes by at most ``2 error``, so the odds change at most by the factor ``exp(2 error)``: those
    against the class that had the lowest do not exceed that, and no other class gets lower ones than its own divided by
    it. Close to a probability of 1 this is far less than the Lipschitz constant of 1/2 allows.

    Rounding between logits and probability, relative and in units of 2 ** -24, here and in the model: the difference of
    logits d is off by 1, which changes its power by d; the power itself is off by at most 8 (4 units in the last
    place); the sum by 1 for each addition; the quotient by 1, and its numerator by 8. As d exp(-d) is at most 1 / e,
    that is less than 1.4 for each class and 17; comparing in float32 adds 1.
    """
    rounding = math.copysign((2 * class_count + 20) * 2.0**-24, error)
    odds = max(1 / (confidence - rounding) - 1, 0.0) * math.exp(2 * error)
    return 1 / (1 + odds) - rounding


def lipschitz(strategy: Strategy.ValueType, class_count: int) -> float:
    """Return how much a margin or an entropy can change if each logit changes by at most 1.

    The constant is the largest sum of magnitudes of the score's derivatives:

    - the margin m of two probabilities that sum up to s: (s + m) (1 - m), at most 1 - m * m;
    - the entropy: the mean distance of -log p from its mean, at most its standard deviation, whose square is at most
      1 + log(classes - 1) ** 2 / 4 (Reeb and Wolf 2015, lemma 8).
    """
    match strategy:
        case Strategy.STRATEGY_MARGIN:
            return 1.0
        case Strategy.STRATEGY_ENTROPY:
            return math.sqrt(1 + math.log(class_count - 1) ** 2 / 4)
    raise ValueError(f"{Strategy.Name(strategy)} does not rank by a model's answers")
