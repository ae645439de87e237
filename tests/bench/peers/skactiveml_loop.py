"""The article's 40 rounds with scikit-activeml: each query fits the classifier and returns the least confident."""

# The library is in an environment of its own.
# mypy: disable-error-code="import-not-found"
from __future__ import annotations

import sys
from typing import Any

import numpy as np
from skactiveml.classifier import SklearnClassifier
from skactiveml.pool import UncertaintySampling
from sklearn.linear_model import LogisticRegression

from tests.bench.peers.article_data import BATCH, ArticleData, report


def loop(data: ArticleData, budget: int) -> Any:
    """The classifier fitted to ``budget`` labels."""
    classifier = SklearnClassifier(LogisticRegression(), classes=range(10))
    strategy = UncertaintySampling(method="least_confident", random_state=0)
    given = np.full(len(data.pool), np.nan)
    given[:BATCH] = data.labels[:BATCH]
    for _ in range(budget // BATCH - 1):
        asked = strategy.query(data.pool, given, classifier, batch_size=BATCH)
        given[asked] = data.labels[asked]
    return classifier.fit(data.pool, given)


if __name__ == "__main__":
    report(sys.argv[1], loop)
