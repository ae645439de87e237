"""Compute scores from approximate logits, and bound their error. Pure functions.

Logits are ``[classes, n]``, so that every step runs along n, and may be overwritten. If each logit is off by at most e,
a score is off by at most its Lipschitz constant times e, in the maximum norm over the logits.
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


def lipschitz(strategy: Strategy.ValueType, class_count: int) -> float:
    """Return how much the score can change if each logit changes by at most 1.

    The constant is the largest sum of magnitudes of the score's derivatives:

    - the largest probability p: 2 p (1 - p), at most 1/2;
    - the margin m of two probabilities that sum up to s: (s + m) (1 - m), at most 1 - m * m;
    - the entropy: the mean distance of -log p from its mean, at most its standard deviation, whose square is at most
      1 + log(classes - 1) ** 2 / 4 (Reeb and Wolf 2015, lemma 8).
    """
    match strategy:
        case Strategy.STRATEGY_LEAST_CONFIDENCE | Strategy.STRATEGY_MOST_CONFIDENT:
            return 0.5
        case Strategy.STRATEGY_MARGIN:
            return 1.0
        case Strategy.STRATEGY_ENTROPY:
            return math.sqrt(1 + math.log(class_count - 1) ** 2 / 4)
    raise ValueError(f"{Strategy.Name(strategy)} does not rank by a model's answers")
