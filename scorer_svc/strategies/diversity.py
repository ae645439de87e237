"""Choose batches of samples that lie far from each other. Pure functions."""

from __future__ import annotations

import numpy as np

from scorer_svc.strategies.candidates import Candidates, Positions, Scores, in_place
from scorer_svc.strategies.distances import Euclidean, Gradients
from scorer_svc.strategies.kmeans_plus_plus import farthest_first, filled_up, k_means_plus_plus


def clustered_margin(candidates: Candidates, count: int, seed: int) -> tuple[Positions, Scores]:
    """Spread out the candidates by k-means++, starting from the smallest margin.

    As Citovsky and others 2021, with k-means++ in place of their hierarchical clustering. The candidates must already
    be those with the smallest margins.
    """
    first = int(candidates.margins.argmin())
    positions = k_means_plus_plus(Euclidean(candidates.values), first, count, seed)
    return in_place(filled_up(positions, len(candidates.values), count))


def badge(candidates: Candidates, count: int, seed: int) -> tuple[Positions, Scores]:
    """Choose by k-means++ over last-layer gradients, starting from the longest (Ash and others 2020).

    They are the gradients that the last layer would get if the predicted class were right.
    """
    assert candidates.probabilities is not None
    gradients = Gradients(candidates.probabilities, candidates.values)
    positions = k_means_plus_plus(gradients, int(gradients.squares.argmax()), count, seed)
    return in_place(filled_up(positions, len(candidates.values), count))


def k_center(candidates: Candidates, count: int, seed: int) -> tuple[Positions, Scores]:
    """Choose the sample farthest from all chosen before, repeatedly.

    The algorithm is Gonzalez 1985; as a strategy, Sener and Savarese 2018. The score is the distance, negated. If none
    was chosen before, the first is the sample nearest to the mean, and its score is the distance of the farthest from
    it.
    """
    free = len(candidates.values)
    points = Euclidean(np.concatenate([candidates.values, candidates.chosen]))
    nearest = np.full(free, np.inf, np.float32)
    if len(candidates.chosen):
        points.lower(nearest, np.arange(free, len(points.squares)))
        positions, apart = farthest_first(points, nearest, count)
        return positions, -np.sqrt(apart)
    centre = np.array([points.squares.argmin()], np.intp)
    points.lower(nearest, centre)
    radius = nearest.max(keepdims=True)
    nearest[centre] = -1
    positions, apart = farthest_first(points, nearest, count - 1)
    return np.concatenate([centre, positions]), -np.sqrt(np.concatenate([radius, apart]))
