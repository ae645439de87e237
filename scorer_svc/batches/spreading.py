"""Samples that lie far from each other. Pure.

All need the squared distances of every candidate to the sample chosen last, which take one product with it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from scorer_svc.batches.candidates import Candidates, Positions, Scores, Values, in_place

_WORK_MAX = 2_000_000_000_000  # multiplications: about a minute of one core
_FEWER = 48  # dimensions
Distances = Callable[[int], NDArray[np.float32]]  # of all candidates to one of them, squared, [n]


def clustered_margin(candidates: Candidates, count: int, seed: int) -> tuple[Positions, Scores]:
    """Spread out by k-means++ what has the smallest margins, from the smallest on (Citovsky and others 2021, with
    k-means++ in place of their hierarchical clustering). Which candidates those are is decided before."""
    margins = candidates.margins
    values = _lighter(candidates.values, count, seed)
    positions = _k_means_plus_plus(_euclidean(values), int(np.argmin(margins)), len(margins), count, seed)
    return positions, margins[positions]


def badge(candidates: Candidates, count: int, seed: int) -> tuple[Positions, Scores]:
    """k-means++ over the gradients that the last layer would get if the predicted class were right, from the longest on
    (Ash and others 2020). A gradient is the outer product of an error and the values, of which only products are
    needed.
    """
    assert candidates.probabilities is not None
    errors = candidates.probabilities.copy()
    errors[np.arange(len(errors)), errors.argmax(axis=1)] -= 1
    values = _lighter(candidates.values, count, seed)
    lengths = (errors**2).sum(axis=1) * ((values**2).sum(axis=1) + 1)

    def distances(at: int) -> NDArray[np.float32]:
        products = (errors @ errors[at]) * (values @ values[at] + 1)
        apart: NDArray[np.float32] = np.maximum(lengths - 2 * products + lengths[at], 0)
        return apart

    positions = _k_means_plus_plus(distances, int(np.argmax(lengths)), len(errors), count, seed)
    return in_place(positions)


def k_center(candidates: Candidates, count: int, seed: int) -> tuple[Positions, Scores]:
    """Farthest first from all that was chosen before (Gonzalez 1985; as a strategy, Sener and Savarese 2018). The score
    is the distance, negated. The first of all is the sample that is nearest to the mean."""
    values = _lighter(np.concatenate([candidates.values, candidates.chosen]), count + len(candidates.chosen), seed)
    here, before = values[: len(candidates.values)], values[len(candidates.values) :]
    squares = (here**2).sum(axis=1)
    nearest = np.full(len(here), np.inf, np.float32)
    for centre in before:
        np.minimum(nearest, _to(here, squares, centre), out=nearest)
    positions, scores = np.empty(count, np.intp), np.empty(count, np.float32)
    for place in range(count):
        if place == 0 and not len(before):
            at = int(_to(here, squares, here.mean(axis=0)).argmin())
            scores[place] = 0
        else:
            at = int(nearest.argmax())
            scores[place] = -np.sqrt(nearest[at])
        positions[place] = at
        np.minimum(nearest, _to(here, squares, here[at]), out=nearest)
        nearest[at] = -1  # never again, though others are duplicates of it
    return positions, np.minimum(scores, 0)


def spread(values: Values, first: int, count: int, seed: int) -> Positions:
    """``count`` positions by k-means++, from ``first`` on."""
    return _k_means_plus_plus(_euclidean(_lighter(values, count, seed)), first, len(values), count, seed)


def _k_means_plus_plus(distances: Distances, first: int, size: int, count: int, seed: int) -> Positions:
    """Each next one with a probability in proportion to its squared distance from the nearest chosen one (Arthur and
    Vassilvitskii 2007). Where only duplicates are left, the first of them."""
    rng = np.random.default_rng(seed)
    positions = np.empty(count, np.intp)
    positions[0] = first
    nearest = distances(first)
    nearest[first] = 0
    free = np.ones(size, bool)
    free[first] = False
    for place in range(1, count):
        sums = np.cumsum(nearest, dtype=np.float64)
        at = int(np.searchsorted(sums, rng.random() * sums[-1], side="right")) if sums[-1] > 0 else size
        if at >= size or not free[at]:
            at = int(np.argmax(np.where(free, nearest, -1)))
        positions[place], free[at] = at, False
        np.minimum(nearest, distances(at), out=nearest)
        nearest[at] = 0
    return positions


def _euclidean(values: Values) -> Distances:
    squares = (values**2).sum(axis=1)
    return lambda at: _to(values, squares, values[at])


def _to(values: Values, squares: NDArray[np.float32], centre: NDArray[np.float32]) -> NDArray[np.float32]:
    distances: NDArray[np.float32] = np.maximum(squares - 2 * (values @ centre) + centre @ centre, 0)
    return distances


def _lighter(values: Values, steps: int, seed: int) -> Values:
    """The same, or where so many steps would take minutes, projected at random into fewer dimensions, which keeps
    distances about as they are (Johnson and Lindenstrauss 1984)."""
    if values.size * steps <= _WORK_MAX or values.shape[1] <= _FEWER:
        return values
    rng = np.random.default_rng(seed)
    directions = rng.standard_normal((values.shape[1], _FEWER), np.float32) / np.float32(_FEWER**0.5)
    return values @ directions
