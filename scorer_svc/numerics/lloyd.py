"""Run k-means from given centroids, a few iterations at a time, so that it can be ended. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from labelloop.domain.abandonment import check_wanted
from numpy.typing import NDArray

Values = NDArray[np.float32]  # [n, values]

_AT_ONCE_WORK = 2_000_000_000  # multiplications: less than a second of one core


@dataclass(frozen=True)
class Clusters:
    """A partition of samples.

    Attributes:
        of: The cluster of each sample, ``[n]``.
        centroids: ``[clusters, values]``.
        spread: The sum of squared distances of samples from the centroids of their clusters.
    """

    of: NDArray[np.intp]
    centroids: Values
    spread: float


def lloyd(values: Values, start: Values, iterations_max: int) -> Clusters:
    """Run k-means (Lloyd 1982) on samples ``[n, values]`` from centroids ``[clusters, values]``.

    Iterations end when nothing changes any more, or after ``iterations_max``. Ended early if nobody waits for it.
    """
    from sklearn.cluster import KMeans  # a second and 60 MB that most scorers never need

    at_once = max(1, _AT_ONCE_WORK // (values.size * len(start)))
    while True:
        check_wanted()
        steps = min(at_once, iterations_max)
        means = KMeans(len(start), init=start, n_init=1, max_iter=steps).fit(values)
        iterations_max -= steps
        if iterations_max <= 0 or means.n_iter_ < steps:
            centroids = np.asarray(means.cluster_centers_, np.float32)
            return Clusters(means.labels_.astype(np.intp), centroids, float(means.inertia_))
        start = means.cluster_centers_
