"""What the strategies of other libraries are tried on, and how they tell what came of it. Needs nothing of
labelloop."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

FIRST_BATCH, BATCH = 50, 25
AT = (50, 100, 200, 400)


@dataclass(frozen=True)
class StrategyData:
    """``pool`` and ``test`` ``[n, values]``, pixels in [0, 1] or learned features; labels are class indices."""

    pool: NDArray[Any]
    labels: NDArray[Any]
    test: NDArray[Any]
    test_labels: NDArray[Any]

    def first(self, seed: int) -> NDArray[np.intp]:
        """A first batch at random, for libraries and strategies that have none of their own."""
        return np.random.default_rng(seed).choice(len(self.pool), FIRST_BATCH, replace=False)


def classifier() -> LogisticRegression:
    """Theirs, with more steps than it takes by default: it would not converge."""
    return LogisticRegression(max_iter=500)


Asked = list[int]  # samples in the order asked for
Loop = Callable[[StrategyData, str, int], Asked]


def report(data_file: str, strategy: str, seed: int, loop: Loop) -> None:
    """Print, at each number of labels, the accuracy of the classifier that was fitted to so many samples of
    ``loop``."""
    with np.load(Path(data_file)) as arrays:
        data = StrategyData(**arrays)
    asked = loop(data, strategy, seed)
    found = {}
    for count in AT:
        fitted = classifier().fit(data.pool[asked[:count]], data.labels[asked[:count]])
        found[count] = float((fitted.predict(data.test) == data.test_labels).mean())
    print(json.dumps(found))
