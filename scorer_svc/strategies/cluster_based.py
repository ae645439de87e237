"""Choose representative samples by clustering, for batches before there is a model. Pure functions."""

from __future__ import annotations

import heapq

import numpy as np
from labelloop.domain.abandonment import check_wanted
from numpy.random import Generator
from numpy.typing import NDArray

from scorer_svc.numerics.lloyd import Clusters, lloyd
from scorer_svc.numerics.pca import half_whitened
from scorer_svc.strategies.candidates import Candidates, Positions, Scores, Values, in_place
from scorer_svc.strategies.distances import Euclidean
from scorer_svc.strategies.kmeans_plus_plus import filled_up, k_means_plus_plus

_STARTS_MAX = 10
_STEPS_MAX = 300
_STEPS_MIN = 10
_STARTS_WORK = 20_000_000  # samples times clusters times starts: tens of seconds
_TYPICAL_CLUSTERS_MAX = 500  # as in the paper
_NEIGHBOURS = 20
_PART = 2_000  # rows of a matrix of distances


def k_means(candidates: Candidates, count: int, seed: int) -> tuple[Positions, Scores]:
    """Choose the sample nearest to each centroid of k-means, largest cluster first.

    As a first batch: Kang and others 2004. Clusters are found in the first fifty principal components, half whitened.
    """
    reduced = half_whitened(candidates.values, seed)
    of, centres = _clustered(reduced, count, seed)
    apart = ((reduced - centres[of]) ** 2).sum(axis=1)
    nearest = np.lexsort((apart, of))
    found, starts, sizes = np.unique(of[nearest], return_index=True, return_counts=True)
    medoids = nearest[starts][np.lexsort((found, -sizes))]
    return in_place(filled_up(medoids, len(reduced), count))


def typiclust(candidates: Candidates, count: int, seed: int) -> tuple[Positions, Scores]:
    """Choose the most typical sample of the largest cluster with the fewest labels, repeatedly.

    TypiClust is by Hacohen, Dekel and Weinshall 2022. The most typical sample is the one nearest to its twenty
    neighbours. Clusters are those of k-means, as many as there will be labels, up to 500.
    """
    free, labels = len(candidates.values), len(candidates.chosen)
    reduced = half_whitened(np.concatenate([candidates.values, candidates.chosen]), seed)
    of, _ = _clustered(reduced, min(labels + count, _TYPICAL_CLUSTERS_MAX), seed)
    covered, sizes = np.bincount(of[free:], minlength=of.max() + 1), np.bincount(of[:free])
    clusters = [(int(covered[each]), -int(sizes[each]), int(each)) for each in np.flatnonzero(sizes)]
    members = {each: _by_typicality(reduced, np.flatnonzero(of[:free] == each)) for _, _, each in clusters}
    heapq.heapify(clusters)
    chosen: list[int] = []
    while len(chosen) < count:
        labelled, size, cluster = heapq.heappop(clusters)
        chosen.append(members[cluster].pop())
        if members[cluster]:
            heapq.heappush(clusters, (labelled + 1, size, cluster))
    return in_place(np.array(chosen, np.intp))


def _by_typicality(values: Values, members: NDArray[np.intp]) -> list[int]:
    """Sort the members of a cluster, the most typical last."""
    inside = Euclidean(values[members])
    everyone = np.arange(len(members))
    neighbours = min(_NEIGHBOURS, len(members) - 1)
    mean = np.empty(len(members), np.float32)
    for start in range(0, len(members), _PART):
        check_wanted()
        rows = slice(start, start + _PART)
        nearest = np.partition(inside.distances(rows, everyone), neighbours, axis=1)[:, : neighbours + 1]
        mean[rows] = np.sqrt(nearest).sum(axis=1)  # includes the sample itself, at distance 0
    ordered: list[int] = members[np.lexsort((members, mean))][::-1].tolist()
    return ordered


def _clustered(values: Values, count: int, seed: int) -> tuple[NDArray[np.intp], Values]:
    """Cluster rows by k-means (Lloyd 1982); return the cluster of each row and the centroids.

    There are ``count`` centroids, or as many as there are different rows. The best of ten starts is taken, or of fewer
    if so many rows and clusters would take minutes, down to one start that is ended after ten steps.
    """
    points, rng = Euclidean(values), np.random.default_rng(seed)
    starts = _STARTS_WORK // (len(values) * count)
    steps = int(np.clip(starts * _STEPS_MAX, _STEPS_MIN, _STEPS_MAX))
    runs = [_run(values, points, count, steps, rng) for _ in range(int(np.clip(starts, 1, _STARTS_MAX)))]
    best = min(runs, key=lambda run: run.spread)
    return best.of, best.centroids


def _run(values: Values, points: Euclidean, count: int, steps_max: int, rng: Generator) -> Clusters:
    first, seed = int(rng.integers(len(values))), int(rng.integers(2**63))
    start = values[k_means_plus_plus(points, first, min(count, len(values)), seed)]
    return lloyd(values, start, steps_max)
