"""Group similar samples by k-means. No I/O; only the number of threads is changed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from scorer_svc.numerics.blas_threads import one_thread

_STARTS = 10


def cluster(samples: NDArray[Any], cluster_count: int, seed: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Cluster samples ``[N, *shape]`` by k-means (Lloyd 1982).

    The best of ten runs from k-means++ starts (Arthur and Vassilvitskii 2007) is taken.

    Returns:
        The index of each sample's cluster ``[N]``, and the centroids ``[cluster_count, size]``.
    """
    from sklearn.cluster import KMeans  # a second and 60 MB that most scorers never need

    flat = samples.reshape(len(samples), -1).astype(np.float32)
    with one_thread():
        means = KMeans(cluster_count, n_init=_STARTS, random_state=seed).fit(flat)
    return means.labels_.astype(np.int32), means.cluster_centers_.astype(np.float32)
