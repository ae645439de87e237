"""Run linear algebra on one thread, so that results are the same on any number of cores.

How a sum is rounded depends on the number of threads that add it up.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from threadpoolctl import threadpool_limits

_READ_BY_LIBRARIES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")


@cache
def use_one_thread() -> None:
    """Limit this process's linear algebra to one thread, including libraries that are loaded later.

    The limit is permanent: if it were lifted, another thread might still rely on it.
    """
    os.environ.update(dict.fromkeys(_READ_BY_LIBRARIES, "1"))
    threadpool_limits(1, user_api="blas")


@contextmanager
def one_thread() -> Iterator[None]:
    """Apply :func:`use_one_thread`, and temporarily limit OpenMP, which keeps a number for each calling thread."""
    use_one_thread()
    with threadpool_limits(1, user_api="openmp"):
        yield
