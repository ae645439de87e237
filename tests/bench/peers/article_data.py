"""The article's data and numbers, for a loop in one process. Needs nothing of labelloop."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

BATCH, BUDGET = 10, 400
_WARM_UP_BUDGET = 2 * BATCH


@dataclass(frozen=True)
class ArticleData:
    """``pool`` [4000, 784] and ``test`` [400, 784] are float pixels in [0, 1]; labels are class indices."""

    pool: NDArray[Any]
    labels: NDArray[Any]
    test: NDArray[Any]
    test_labels: NDArray[Any]


def report(data_file: str, loop: Callable[[ArticleData, int], Any]) -> None:
    """Print seconds and test accuracy of ``loop``, which labels that many samples and returns its classifier."""
    with np.load(Path(data_file)) as arrays:
        data = ArticleData(**arrays)
    loop(data, _WARM_UP_BUDGET)
    begin = time.perf_counter()
    classifier = loop(data, BUDGET)
    seconds = time.perf_counter() - begin
    accuracy = float((classifier.predict(data.test) == data.test_labels).mean())
    print(json.dumps({"seconds": seconds, "accuracy": accuracy}))
