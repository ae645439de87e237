"""Data and reports of other libraries' strategies. Does not import labelloop."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

FIRST_BATCH, BATCH = 50, 25
AT = (50, 100, 200, 400)
CPU_S_MAX = 300  # a strategy that needs more is reported as left out
MEMORY_GIB_MAX = 8
OUT_OF_MEMORY = 75  # exit code


@dataclass(frozen=True)
class StrategyData:
    """``pool`` and ``test`` ``[n, values]``, pixels in [0, 1] or learned features of images or texts; labels are class
    indices."""

    pool: NDArray[Any]
    labels: NDArray[Any]
    test: NDArray[Any]
    test_labels: NDArray[Any]

    @property
    def class_count(self) -> int:
        return int(max(self.labels.max(), self.test_labels.max())) + 1

    def first(self, seed: int) -> NDArray[np.intp]:
        """Draw a random first batch, for libraries and strategies without their own."""
        return np.random.default_rng(seed).choice(len(self.pool), FIRST_BATCH, replace=False)


def classifier() -> LogisticRegression:
    """Return a classifier with more steps than by default, to converge."""
    return LogisticRegression(max_iter=500)


Asked = list[int]  # samples in order of request
Loop = Callable[[StrategyData, str, int], Asked]


def report(data_file: str, strategy: str, seed: int, loop: Loop) -> None:
    """Print the accuracy of the classifier at each number of labels, the samples in the order in which they were
    asked for, and the CPU time of choosing them. Past the limits, the process is killed by SIGXCPU
    or exits with OUT_OF_MEMORY."""
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S_MAX, CPU_S_MAX))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_GIB_MAX << 30, MEMORY_GIB_MAX << 30))
    try:
        with np.load(Path(data_file)) as arrays:
            data = StrategyData(**arrays)
        begin = time.process_time()
        asked = loop(data, strategy, seed)
        cpu_s = time.process_time() - begin
    except MemoryError as error:
        print(error, file=sys.stderr)
        sys.exit(OUT_OF_MEMORY)
    accuracy = {}
    for count in AT:
        fitted = classifier().fit(data.pool[asked[:count]], data.labels[asked[:count]])
        accuracy[count] = float((fitted.predict(data.test) == data.test_labels).mean())
    print(json.dumps({"accuracy": accuracy, "asked": asked, "cpu_s": round(cpu_s, 1)}))
