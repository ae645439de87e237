"""Choose points that lie far from each other, many at a time. Pure functions.

Products of matrices are ten times faster than one product with a vector for each point.
"""

from __future__ import annotations

import numpy as np
from labelloop.domain.abandonment import check_wanted
from numpy.random import Generator
from numpy.typing import NDArray

from scorer_svc.strategies.candidates import Positions
from scorer_svc.strategies.distances import Distances, Points
from scorer_svc.strategies.uncertainty import best_first

_DRAWN = 64
_AHEAD = 512


def k_means_plus_plus(points: Points, first: int, count: int, seed: int) -> Positions:
    """Choose points by k-means++ seeding (Arthur and Vassilvitskii 2007).

    Each next point is drawn with a probability in proportion to its squared distance from the nearest chosen one. Fewer
    than ``count`` are returned if only duplicates of chosen points are left.

    Several are drawn by the current distances. Each is then kept with probability d' / d, if those kept before it have
    lowered its squared distance from d to d': rejection sampling, which draws from the same distribution as one by one.
    """
    rng = np.random.default_rng(seed)
    chosen = np.array([first], np.intp)
    nearest = np.full(len(points.squares), np.inf, np.float32)
    newest = chosen
    while True:
        check_wanted()
        points.lower(nearest, newest)
        nearest[newest] = 0
        if len(chosen) == count or not nearest.any():
            return chosen
        drawn = _drawn(nearest, min(_DRAWN, len(chosen)), rng)
        newest = drawn[_kept(points.distances(drawn, drawn), nearest[drawn], rng)][: count - len(chosen)]
        chosen = np.concatenate([chosen, newest])


def _drawn(weights: NDArray[np.float32], count: int, rng: Generator) -> Positions:
    """Draw ``count`` positions independently, in proportion to their weights; a weight of 0 is never drawn."""
    sums = np.cumsum(weights, dtype=np.float64)
    at = np.searchsorted(sums, rng.random(count) * sums[-1], side="right")
    return np.asarray(np.minimum(at, np.flatnonzero(weights)[-1]), np.intp)


def _kept(between: Distances, nearest: Distances, rng: Generator) -> Positions:
    """Return the rows to keep, always including the first; ``between`` ``[n, n]`` are distances among those drawn."""
    now, kept = nearest.copy(), []
    for row, chance in enumerate(rng.random(len(nearest))):
        if chance * nearest[row] < now[row]:
            kept.append(row)
            np.minimum(now, between[row], out=now)
            now[row] = 0
    return np.array(kept, np.intp)


def farthest_first(points: Points, nearest: Distances, count: int) -> tuple[Positions, Distances]:
    """Choose the point farthest from all chosen before, repeatedly (Gonzalez 1985).

    A choice brings no point farther away. So choices are made among the farthest few alone, for as long as one of them
    is farther than any other point has been; then the distances of all points are updated.

    Args:
        nearest: squared distances ``[n]`` from what was chosen before.

    Returns:
        The positions, and each point's squared distance when it was chosen. Ties go by position.
    """
    nearest = nearest.copy()
    chosen, distances = np.empty(0, np.intp), np.empty(0, np.float32)
    everything = np.arange(len(nearest), dtype=np.uint32)
    while len(chosen) < count:
        check_wanted()
        ahead = best_first(everything, -nearest, _AHEAD + 1)
        bound = nearest[ahead[_AHEAD]] if len(ahead) > _AHEAD else np.float32(-1)
        ahead = np.sort(ahead[:_AHEAD])
        rows, apart = _followed(points.distances(ahead, ahead), nearest[ahead], bound, count - len(chosen))
        newest = ahead[rows]
        points.lower(nearest, newest)
        chosen, distances = np.concatenate([chosen, newest]), np.concatenate([distances, apart])
        nearest[chosen] = -1  # never chosen again, unlike duplicates of it, which have 0
    return chosen, distances


def _followed(between: Distances, nearest: Distances, bound: np.float32, count_max: int) -> tuple[Positions, Distances]:
    """Choose farthest first among a few points: at least one, and more while the farthest is beyond ``bound``."""
    rows: list[int] = []
    apart: list[np.float32] = []
    while len(rows) < count_max:
        row = int(nearest.argmax())
        if rows and nearest[row] <= bound:
            break
        rows.append(row)
        apart.append(nearest[row])
        np.minimum(nearest, between[row], out=nearest)
        nearest[rows] = -1
    return np.array(rows, np.intp), np.array(apart, np.float32)


def filled_up(positions: Positions, size: int, count: int) -> Positions:
    """Return ``positions``, filled up to ``count`` with the first of the others below ``size``."""
    others = np.setdiff1d(np.arange(size), positions)
    return np.concatenate([positions, others])[:count].astype(np.intp)
