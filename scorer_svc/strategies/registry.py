"""Look up and run the strategies that choose a batch jointly. No I/O; only the number of threads is changed.

The same candidates and seed give the same batch.
"""

from __future__ import annotations

import numpy as np
from labelloop.scorer.v1.scorer_pb2 import Strategy
from numpy.typing import NDArray

from scorer_svc.numerics.blas_threads import one_thread
from scorer_svc.strategies.candidates import Candidates, Choose, Positions, Scores
from scorer_svc.strategies.cluster_based import k_means, typiclust
from scorer_svc.strategies.diversity import badge, clustered_margin, k_center
from scorer_svc.strategies.uncertainty import Ids, random_scores

CANDIDATES_MAX = 20_000
"""Samples drawn at random from a larger pool, or twice the batch if that is more.

Strategies by margin look at other samples.
"""
_POWER = 1.0
_GUMBEL_SEED = 0x6B


def density(candidates: Candidates, count: int, seed: int) -> tuple[Positions, Scores]:
    """Score by information density (Settles and Craven 2008), lowest first.

    It is one less the margin, times the mean cosine similarity to all candidates, which is that to the mean of their
    directions. The score is the density, negated.
    """
    lengths = np.linalg.norm(candidates.values, axis=1, keepdims=True)
    directions = candidates.values / np.maximum(lengths, 1e-12)
    scores = -(1 - candidates.margins) * (directions @ directions.mean(axis=0))
    first = np.lexsort((candidates.ids, scores))[:count]
    return first, scores[first]


def power_scores(ids: Ids, margins: NDArray[np.float32], seed: int) -> Scores:
    """Perturb margins by Gumbel noise, lowest first (Kirsch and others 2021, "Stochastic batch acquisition").

    Samples are drawn with probabilities in proportion to a power of one less their margin, by adding the noise to its
    logarithm.
    """
    uniform = np.clip(random_scores(ids, seed ^ _GUMBEL_SEED).astype(np.float64), 2.0**-25, 1 - 2.0**-25)
    noise = -np.log(-np.log(uniform))
    wanted = _POWER * np.log(np.maximum(1 - margins.astype(np.float64), 1e-12))
    return (-(wanted + noise)).astype(np.float32)


_STRATEGIES: dict[Strategy.ValueType, Choose] = {
    Strategy.STRATEGY_CLUSTERED_MARGIN: clustered_margin,
    Strategy.STRATEGY_BADGE: badge,
    Strategy.STRATEGY_TYPICLUST: typiclust,
    Strategy.STRATEGY_K_MEANS: k_means,
    Strategy.STRATEGY_DENSITY: density,
    Strategy.STRATEGY_K_CENTER: k_center,
}


def choose(strategy: Strategy.ValueType, candidates: Candidates, count: int, seed: int) -> tuple[Positions, Scores]:
    """Choose ``count`` of the candidates by ``strategy``.

    Returns:
        Positions ``[count]`` in the order chosen, and the scores that they were chosen by, ascending: places if the
        strategy has no score.
    """
    if not count:
        return np.empty(0, np.intp), np.empty(0, np.float32)
    with one_thread():
        return _STRATEGIES[strategy](candidates.in_rows(), count, seed)
