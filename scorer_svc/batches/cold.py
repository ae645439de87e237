"""Batches before there is a model: samples that stand for many others. Pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from scorer_svc.batches.candidates import Candidates, Positions, Scores, Values, in_place
from scorer_svc.batches.spreading import spread

_COMPONENTS = 50
_STARTS = 10
_CLUSTERS_MAX = 1_000  # more take minutes
_TYPICAL_CLUSTERS_MAX = 500  # as the authors have it
_NEIGHBOURS = 20
_PART = 2_000  # rows of a matrix of distances


def k_means(candidates: Candidates, count: int, seed: int) -> tuple[Positions, Scores]:
    """The sample nearest to each centroid of k-means (Lloyd 1982), largest cluster first; as a first batch, Kang and
    others 2004. For more than a thousand, k-means++ alone (Arthur and Vassilvitskii 2007).

    In the first fifty principal components, each divided by the fourth root of its variance: distances then hang less
    on the few that vary most, and the ones of noise count for nothing.
    """
    reduced = half_whitened(candidates.values, seed)
    clusters = min(count, _distinct(candidates.values, reduced))
    if clusters > _CLUSTERS_MAX or clusters < 2:
        return in_place(spread(reduced, _most_central(reduced), count, seed))
    of, centres = _clustered(reduced, clusters, seed)
    apart = ((reduced - centres[of]) ** 2).sum(axis=1)
    nearest = np.lexsort((apart, of))
    starts = np.searchsorted(of[nearest], np.arange(clusters))
    sizes = np.bincount(of, minlength=clusters)
    medoids = nearest[starts[sizes > 0]][np.argsort(-sizes[sizes > 0], kind="stable")]
    return in_place(_filled_up(medoids, len(reduced), count))


def typiclust(candidates: Candidates, count: int, seed: int) -> tuple[Positions, Scores]:
    """The most typical sample, that is the one nearest to its twenty neighbours, of the largest cluster with the fewest
    labels, again and again (Hacohen, Dekel and Weinshall 2022). Clusters are those of k-means, as many as there will be
    labels, up to 500."""
    free, labels = len(candidates.values), len(candidates.chosen)
    values = np.concatenate([candidates.values, candidates.chosen])
    reduced = half_whitened(values, seed)
    clusters = min(labels + count, _TYPICAL_CLUSTERS_MAX, _distinct(values, reduced))
    if clusters < 2:
        return in_place(np.arange(count))
    of, _ = _clustered(reduced, clusters, seed)
    covered, sizes = np.bincount(of[free:], minlength=clusters), np.bincount(of[:free], minlength=clusters)
    members = {each: _by_typicality(reduced, np.flatnonzero(of[:free] == each)) for each in range(clusters)}
    chosen: list[int] = []
    while len(chosen) < count:
        left = [each for each in range(clusters) if members[each]]
        best = min(left, key=lambda each: (covered[each], -sizes[each], each))
        chosen.append(members[best].pop())
        covered[best] += 1
    return in_place(np.array(chosen, np.intp))


def _by_typicality(values: Values, members: NDArray[np.intp]) -> list[int]:
    """The members of a cluster, the most typical last."""
    mean = np.empty(len(members), np.float32)
    inside = values[members]
    squares = (inside**2).sum(axis=1)
    neighbours = min(_NEIGHBOURS, len(members) - 1)
    for start in range(0, len(members), _PART):
        rows = slice(start, start + _PART)
        apart = np.maximum(squares[rows, None] - 2 * inside[rows] @ inside.T + squares, 0)
        nearest = np.partition(apart, neighbours, axis=1)[:, : neighbours + 1]  # itself among them, at no distance
        mean[rows] = np.sqrt(nearest).sum(axis=1)
    ordered: list[int] = members[np.lexsort((members, mean))][::-1].tolist()
    return ordered


def half_whitened(values: Values, seed: int) -> Values:
    """``[n, components]``: the first principal components, each divided by the fourth root of its variance."""
    from sklearn.decomposition import PCA  # a second and 60 MB that most scorers never need

    components = min(_COMPONENTS, *values.shape)
    if len(values) < 2 or not np.ptp(values, axis=0).any():
        return np.zeros((len(values), 1), np.float32)
    analysis = PCA(components, svd_solver="randomized", random_state=seed % 2**32)
    with threadpool_limits(1):  # the same whatever the number of cores
        reduced = analysis.fit_transform(values)
    variance = np.maximum(analysis.explained_variance_, 1e-12 * analysis.explained_variance_[0])
    return np.asarray(reduced / variance**0.25, np.float32)


def _clustered(values: Values, clusters: int, seed: int) -> tuple[NDArray[np.intp], Values]:
    """The cluster of each row and the centroids."""
    from sklearn.cluster import KMeans

    with threadpool_limits(1):
        means = KMeans(clusters, n_init=_STARTS, random_state=seed % 2**32).fit(values)
    return means.labels_.astype(np.intp), means.cluster_centers_


def _distinct(*arrays: Values) -> int:
    """How many distinct rows there are in the one of ``arrays`` that has the fewest: more clusters cannot be."""
    return min(len({row.tobytes() for row in values}) for values in arrays)


def _most_central(values: Values) -> int:
    return int(((values - values.mean(axis=0)) ** 2).sum(axis=1).argmin())


def _filled_up(positions: Positions, size: int, count: int) -> Positions:
    """``positions``, and where they are too few, the first of the others."""
    others = np.setdiff1d(np.arange(size), positions)
    return np.concatenate([positions, others])[:count].astype(np.intp)
