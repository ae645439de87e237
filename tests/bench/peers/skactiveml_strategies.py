"""Batches chosen by scikit-activeml."""

# The library is in an environment of its own.
# mypy: disable-error-code="import-not-found"
from __future__ import annotations

import sys
from typing import Any

import numpy as np
from skactiveml.classifier import SklearnClassifier
from skactiveml.pool import Badge, TypiClust, UncertaintySampling

from tests.bench.peers.strategy_data import AT, BATCH, FIRST_BATCH, Asked, StrategyData, classifier, report


def loop(data: StrategyData, strategy: str, seed: int) -> Asked:
    made = SklearnClassifier(classifier(), classes=range(data.class_count), random_state=seed)
    given = np.full(len(data.pool), np.nan)
    asked: Asked = []
    while len(asked) < max(AT):
        count = BATCH if asked else FIRST_BATCH
        chosen = (
            _query(data, strategy, seed, given, made, count) if asked or strategy == "typiclust" else data.first(seed)
        )
        given[chosen] = data.labels[chosen]
        asked += [int(each) for each in chosen]
    return asked


def _query(data: StrategyData, strategy: str, seed: int, given: Any, made: Any, count: int) -> Any:
    if strategy == "typiclust":
        return TypiClust(random_state=seed).query(data.pool, given, batch_size=count)
    query = {
        "margin": UncertaintySampling(method="margin_sampling", random_state=seed),
        "badge": Badge(random_state=seed),
    }
    return query[strategy].query(data.pool, given, made, batch_size=count)


if __name__ == "__main__":
    report(sys.argv[1], sys.argv[2], int(sys.argv[3]), loop)
