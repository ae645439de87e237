"""Group similar samples by k-means. No I/O; only the number of threads is changed."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scorer_svc.numerics.blas_threads import one_thread
from scorer_svc.numerics.lloyd import Values, lloyd
from scorer_svc.strategies.candidates import Positions
from scorer_svc.strategies.distances import Euclidean
from scorer_svc.strategies.kmeans_plus_plus import filled_up, k_means_plus_plus

WORK_MAX = 400_000_000_000
"""Multiplications of one clustering: about a minute of one core."""
_STARTS = 10
_ITERATIONS_MAX, _ITERATIONS_MIN = 300, 10
_SEEDING = 3  # what k-means++ costs, in iterations, at most


class Plan(NamedTuple):
    """How often k-means is started, and how many iterations each start may take."""

    starts: int
    iterations: int


def plan(sample_count: int, sample_size: int, cluster_count: int) -> Plan | None:
    """Return as many starts, up to ten, and iterations, up to 300, as ``WORK_MAX`` allows.

    None if it does not allow one start of ten iterations. Starts are given up before iterations fall below fifty.
    """
    iterations = WORK_MAX // (sample_count * sample_size * cluster_count)
    starts = min(_STARTS, max(1, iterations // (_SEEDING + 5 * _ITERATIONS_MIN)))
    each = min(_ITERATIONS_MAX, iterations // starts - _SEEDING)
    return Plan(starts, each) if each >= _ITERATIONS_MIN else None


def clusters_max(sample_count: int, sample_size: int) -> int:
    """Return the largest number of clusters for which there is a :func:`plan`."""
    return WORK_MAX // (sample_count * sample_size * (_SEEDING + _ITERATIONS_MIN))


def cluster(
    samples: NDArray[Any], cluster_count: int, seed: int, planned: Plan
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Cluster samples ``[N, *shape]`` by k-means (Lloyd 1982).

    The best run of those ``planned``, from k-means++ starts (Arthur and Vassilvitskii 2007), is taken.

    Returns:
        The index of each sample's cluster ``[N]``, and the centroids ``[cluster_count, size]``.
    """
    flat = samples.reshape(len(samples), -1).astype(np.float32)
    seeds = np.random.default_rng(seed).integers(0, 2**31, planned.starts).tolist()
    best = None
    with one_thread():
        for each in seeds:
            found = lloyd(flat, flat[_start(flat, cluster_count, each)], planned.iterations)
            best = found if best is None or found.spread < best.spread else best
    assert best is not None, "there is at least one start"
    return best.of.astype(np.int32), best.centroids


def _start(values: Values, count: int, seed: int) -> Positions:
    first = int(np.random.default_rng(seed).integers(len(values)))
    return filled_up(k_means_plus_plus(Euclidean(values), first, count, seed), len(values), count)
