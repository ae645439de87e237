"""Joint batches and learned features are the same for any number of cores and threads."""

from __future__ import annotations

import os
import subprocess
import sys

_PROGRAM = """
import sys
from hashlib import sha256
import numpy as np
import structlog
from labelloop.scorer.v1.scorer_pb2 import Strategy
from scorer_svc.strategies.candidates import Candidates
from scorer_svc.strategies.registry import choose
from scorer_svc.features.patches import learn_patches
from scorer_svc.features.scattering import learn_scattering

structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
rng = np.random.default_rng(0)
size = 4_000
values = rng.random((size, 300), np.float32)
given = Candidates(np.arange(size, dtype=np.uint32), values, None, values[:50])
{first}
for strategy in ({strategies}):
    print(choose(strategy, given, 300, 5)[0].tolist())
for learn, shape in ((learn_patches, (1_000, 28, 28)), (learn_scattering, (600, 20, 20))):
    print(sha256(learn(rng.integers(0, 256, shape).astype(np.uint8), 0)).hexdigest())
"""
_STRATEGIES = "Strategy.STRATEGY_K_MEANS, Strategy.STRATEGY_TYPICLUST, Strategy.STRATEGY_K_CENTER"
_LOAD_FIRST = "import sklearn.cluster, sklearn.decomposition"


_OVERLAPPING = """
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from threadpoolctl import threadpool_info
from scorer_svc.numerics.blas_threads import one_thread

assert (np.ones((2, 2)) @ np.ones((2, 2))).sum() == 8  # loads the library
assert threadpool_info()

def count():
    print({each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"})

with ThreadPoolExecutor(2) as executor:
    first, second = one_thread(), one_thread()
    executor.submit(first.__enter__).result()
    executor.submit(second.__enter__).result()
    executor.submit(first.__exit__, None, None, None).result()
    count()
    executor.submit(second.__exit__, None, None, None).result()
count()
"""


def output(program: str, threads: int) -> str:
    """Return the output of a fresh process with ``threads`` cores and threads."""
    cores = sorted(os.sched_getaffinity(0))[:threads]
    settings = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    program = f"import os; os.sched_setaffinity(0, {cores})\n{program}"
    made = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **settings}, capture_output=True, text=True, check=True
    )
    return made.stdout


def answer(threads: int, first: str = "") -> str:
    return output(_PROGRAM.format(first=first, strategies=_STRATEGIES), threads)


def test_batches_and_features_do_not_depend_on_the_thread_count() -> None:
    alone = answer(1)
    assert len(alone.splitlines()) == 5
    assert answer(4) == alone
    assert answer(4, _LOAD_FIRST) == alone


def test_the_limit_of_one_thread_remains_after_overlapping_uses() -> None:
    assert output(_OVERLAPPING, 4).splitlines() == ["{1}", "{1}"]
