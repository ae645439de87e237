"""Arithmetic that comes out the same on any number of cores: what a sum rounds to hangs on how many threads add up."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from threadpoolctl import threadpool_limits

_READ_BY_LIBRARIES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")


@cache
def use_one_thread() -> None:
    """From here on the linear algebra of this process runs on one thread, that of libraries still to be loaded too.

    For good: a limit that is given back would be given back while another thread relies on it.
    """
    os.environ.update(dict.fromkeys(_READ_BY_LIBRARIES, "1"))
    threadpool_limits(1, user_api="blas")


@contextmanager
def one_thread() -> Iterator[None]:
    """:func:`use_one_thread`, and meanwhile the same of OpenMP, which has a number for each thread that calls it."""
    use_one_thread()
    with threadpool_limits(1, user_api="openmp"):
        yield
