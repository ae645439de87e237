"""Batches that small-text chooses; its name for margin is breaking ties. It lacks BADGE and TypiClust. The nearest to
BADGE, which combines uncertainty and diversity, is contrastive active learning; to TypiClust, k-means over embeddings.
Both use the samples as embeddings."""

# The library is in an environment of its own.
# mypy: disable-error-code="import-not-found,misc"
from __future__ import annotations

import sys
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix
from small_text import (
    BreakingTies,
    ContrastiveActiveLearning,
    EmbeddingKMeans,
    PoolBasedActiveLearner,
    SklearnClassifier,
    SklearnDataset,
)

from tests.bench.peers.strategy_data import AT, BATCH, Asked, StrategyData, classifier, report

_QUERIES = {
    "margin": BreakingTies,
    "contrastive": lambda: ContrastiveActiveLearning(pbar=None),
    "embedding-k-means": EmbeddingKMeans,
}


class Embedding(SklearnClassifier):
    """Uses samples as their embeddings."""

    def embed(self, samples: Any, *, return_proba: bool = False, pbar: Any = None) -> Any:
        values = samples.x.toarray()
        return (values, self.predict_proba(samples)) if return_proba else values


class Factory:
    """Creates a classifier per fit."""

    def __init__(self, class_count: int) -> None:
        self._class_count = class_count

    def new(self) -> Embedding:
        return Embedding(classifier(), self._class_count)


def loop(data: StrategyData, strategy: str, seed: int) -> Asked:
    np.random.seed(seed)
    samples = SklearnDataset(csr_matrix(data.pool), data.labels, target_labels=np.arange(data.class_count))
    learner = PoolBasedActiveLearner(Factory(data.class_count), _QUERIES[strategy](), samples)
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
