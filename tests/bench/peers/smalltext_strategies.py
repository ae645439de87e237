"""Batches as small-text chooses them: breaking ties is its margin."""

# The library is in an environment of its own.
# mypy: disable-error-code="import-not-found"
from __future__ import annotations

import sys

import numpy as np
from scipy.sparse import csr_matrix
from small_text import BreakingTies, GreedyCoreset, PoolBasedActiveLearner, SklearnClassifierFactory, SklearnDataset

from tests.bench.peers.strategy_data import AT, BATCH, Asked, StrategyData, classifier, report


def loop(data: StrategyData, strategy: str, seed: int) -> Asked:
    np.random.seed(seed)
    samples = SklearnDataset(csr_matrix(data.pool), data.labels, target_labels=np.arange(10))
    query = {"margin": BreakingTies, "k-center": GreedyCoreset}[strategy]()
    learner = PoolBasedActiveLearner(SklearnClassifierFactory(classifier(), 10), query, samples)
    first = data.first(seed)
    learner.initialize_data(first, data.labels[first])
    asked: Asked = [int(each) for each in first]
    while len(asked) < max(AT):
        chosen = learner.query(num_samples=BATCH)
        learner.update(data.labels[chosen])
        asked += [int(each) for each in chosen]
    return asked


if __name__ == "__main__":
    report(sys.argv[1], sys.argv[2], int(sys.argv[3]), loop)
