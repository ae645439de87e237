"""The article's 40 rounds with modAL, where the caller keeps the pool."""

# The library is in an environment of its own.
# mypy: disable-error-code="import-not-found"
from __future__ import annotations

import sys
from typing import Any

import numpy as np
from modAL.models import ActiveLearner
from modAL.uncertainty import uncertainty_sampling
from sklearn.linear_model import LogisticRegression

from tests.bench.peers.article_data import BATCH, ArticleData, report


def loop(data: ArticleData, budget: int) -> Any:
    """The learner fitted to ``budget`` labels."""
    learner = ActiveLearner(LogisticRegression(), uncertainty_sampling, data.pool[:BATCH], data.labels[:BATCH])
    left = np.arange(BATCH, len(data.pool))
    for _ in range(budget // BATCH - 1):
        asked, *_ = learner.query(data.pool[left], n_instances=BATCH)
        learner.teach(data.pool[left[asked]], data.labels[left[asked]])
        left = np.delete(left, asked)
    return learner


if __name__ == "__main__":
    report(sys.argv[1], loop)
