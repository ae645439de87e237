"""The strategies that choose a batch together, by name. Pure, but for the number of threads: the same candidates and
seed give the same batch."""

from __future__ import annotations

import numpy as np
from labelloop.scorer.v1.scorer_pb2 import Strategy
from numpy.typing import NDArray

from scorer_svc.batches.candidates import Candidates, Choose, Positions, Scores
from scorer_svc.batches.cold import k_means, typiclust
from scorer_svc.batches.spreading import badge, clustered_margin, k_center
from scorer_svc.selection import Ids, random_scores
from scorer_svc.threads import one_thread

CANDIDATES_MAX = 20_000
"""Of larger pools, strategies other than those by margin look at so many samples, or twice the batch, drawn at
random."""
_POWER = 1.0
_GUMBEL_SEED = 0x6B


def density(candidates: Candidates, count: int, seed: int) -> tuple[Positions, Scores]:
    """Information density (Settles and Craven 2008): one less the margin, times the mean cosine similarity to all
    candidates, which is that to the mean of their directions."""
    lengths = np.linalg.norm(candidates.values, axis=1, keepdims=True)
    directions = candidates.values / np.maximum(lengths, 1e-12)
    scores = -(1 - candidates.margins) * (directions @ directions.mean(axis=0))
    first = np.lexsort((candidates.ids, scores))[:count]
    return first, scores[first]


def power_scores(ids: Ids, margins: NDArray[np.float32], seed: int) -> Scores:
    """Lowest first: samples are drawn with probabilities in proportion to a power of one less their margin, by adding
    Gumbel noise to its logarithm (Kirsch and others 2021, "Stochastic batch acquisition")."""
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
    """Positions ``[count]`` of the batch among the candidates, in the order chosen, and what each was chosen by,
    ascending: a place where the strategy has no score."""
    if not count:
        return np.empty(0, np.intp), np.empty(0, np.float32)
    with one_thread():
        return _STRATEGIES[strategy](candidates.in_rows(), count, seed)
