"""Score samples by a model's probabilities, or by id; the lowest score comes first. Pure functions.

The order is always by (score, sample id), so that equal scores have one order and a merge of shards is exact.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from labelloop.scorer.v1.scorer_pb2 import Strategy
from numpy.typing import NDArray

Probabilities = NDArray[np.float32]  # [n, classes]
Scores = NDArray[np.float32]  # [n]
Ids = NDArray[np.uint32]  # [n]


def least_confidence(probabilities: Probabilities) -> Scores:
    """Score by the largest probability (Lewis and Gale 1994)."""
    scores: Scores = probabilities.max(axis=1)
    return scores


def margin(probabilities: Probabilities) -> Scores:
    """Score by the largest probability less the second largest (Scheffer, Decomain and Wrobel 2001)."""
    largest, second = two_largest(probabilities.T)
    return largest - second


def two_largest(rows: NDArray[np.float32]) -> tuple[Scores, Scores]:
    """Return the largest and second largest value, ``[n]`` each, of the columns of ``[classes, n]``, two at least."""
    largest, second = np.maximum(rows[0], rows[1]), np.minimum(rows[0], rows[1])
    for row in rows[2:]:
        second = np.maximum(second, np.minimum(largest, row))
        largest = np.maximum(largest, row)
    return largest, second


def entropy(probabilities: Probabilities) -> Scores:
    """Score by the Shannon entropy in nats, negated (Shannon 1948; for selection, Settles 2009, section 3.1)."""
    logs = np.log(probabilities, out=np.zeros_like(probabilities), where=probabilities > 0)
    scores = np.zeros(len(probabilities), np.float32)
    for terms in (probabilities * logs).T:  # one after the other: the rounding of numpy's sum depends on the layout
        scores += terms
    return scores


def most_confident(probabilities: Probabilities) -> Scores:
    """Score by the largest probability, negated."""
    return -least_confidence(probabilities)


BY_MODEL: dict[Strategy.ValueType, Callable[[Probabilities], Scores]] = {
    Strategy.STRATEGY_LEAST_CONFIDENCE: least_confidence,
    Strategy.STRATEGY_MARGIN: margin,
    Strategy.STRATEGY_ENTROPY: entropy,
    Strategy.STRATEGY_MOST_CONFIDENT: most_confident,
}


FLOORS: dict[Strategy.ValueType, float] = {Strategy.STRATEGY_MARGIN: 0.0, Strategy.STRATEGY_MOST_CONFIDENT: -1.0}
"""The lowest possible scores."""


def in_order(ids: Ids, seed: int) -> Scores:
    """Give all samples the same score, so that the ids decide; ``seed`` changes nothing."""
    return np.zeros(len(ids), np.float32)


def random_scores(ids: Ids, seed: int) -> Scores:
    """Compute a uniform score in [0, 1) from a hash of seed and id (SplitMix64: Steele, Lea and Flood 2014)."""
    with np.errstate(over="ignore"):  # the hash is arithmetic modulo 2**64
        mixed = ids.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(_mix_seed(seed))
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    return ((mixed >> np.uint64(40)) / np.float32(2**24)).astype(np.float32)


def _mix_seed(seed: int) -> int:
    """Spread neighbouring seeds: without it, seed s + 1 would be seed s shifted by one id."""
    mask = 2**64 - 1
    mixed = (seed * 0xD1342543DE82EF95 + 0x2545F4914F6CDD1D) & mask
    return ((mixed ^ (mixed >> 32)) * 0xDA942042E4DD58B5) & mask


BY_ID: dict[Strategy.ValueType, Callable[[Ids, int], Scores]] = {
    Strategy.STRATEGY_IN_ORDER: in_order,
    Strategy.STRATEGY_RANDOM: random_scores,
}


def best_first(ids: Ids, scores: Scores, limit: int) -> NDArray[np.intp]:
    """Return positions of the ``limit`` lowest scores, by (score, id); all if ``limit`` is 0 or more than there are."""
    if not 0 < limit < len(ids):
        return np.lexsort((ids, scores))
    bound = np.partition(scores, limit - 1)[limit - 1]
    near = np.flatnonzero(~(scores > bound))  # the first ``limit``, all that tie with the last of them, and NaN
    return near[np.lexsort((ids[near], scores[near]))[:limit]]
