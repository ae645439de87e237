"""Learn coordinates that locate samples among each other, by spectral embedding. Pure functions.

Coordinates change little between near neighbours, however far apart two samples are that many such steps connect. A
label then says much about the sample's whole cluster.

They are the first eigenvectors of the graph of near neighbours (Belkin and Niyogi 2003, with the scales of
Zelnik-Manor and Perona 2004). A new sample gets the weighted mean of its neighbours' coordinates (Nyström's formula:
Bengio and others 2004). scikit-learn's spectral embedding cannot be applied to new samples.

Only coordinates that the samples define are kept. Eigenvectors whose eigenvalues are nearly equal span a space that is
well defined, but rounding, and thus the processor, decides which vectors of it a solver returns. Such a group is kept
or left out as a whole, and its basis is the one nearest to a random frame drawn from the seed, which fixes signs too.
Duplicates form one landmark, counted as often as they occur: separately, they would be one another's neighbours and
leave a graph of unconnected pieces.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from labelloop.domain.abandonment import check_wanted
from numpy.typing import NDArray

from scorer_svc.features.spectral_basis import Reals, groups, leading, nearest_basis
from scorer_svc.numerics.pca import Values, half_whitening

LANDMARKS_MIN, LANDMARKS_MAX = 100, 4_000
COORDINATES = 24
NEIGHBOURS = 20
SHARPNESS = 2.0
NOTHING = 1e-5  # smaller weights are decided by rounding and count as 0
_WIDTH_AT = 7  # the neighbour whose distance is a landmark's width
_NARROW = 1e-2  # the smallest width, as a share of the root mean square of all distances
_SAME = 1e-3  # a share of the same: closer samples are duplicates
_STEADIEST = 1e-2  # the least value that 1 less an eigenvalue counts as where coordinates are weighted by it


class Wanted(NamedTuple):
    """What coordinates to learn.

    Attributes:
        coordinates: how many at most.
        neighbours: at which neighbour weights fall to 0.
        weighted: whether each is divided by the root of 1 less its eigenvalue, so that those count most that
            vary least from neighbour to neighbour; else all count the same.
    """

    coordinates: int = COORDINATES
    neighbours: int = NEIGHBOURS
    weighted: bool = False


_WANTED = Wanted()


@dataclass(frozen=True)
class Neighbourhood:
    """Landmarks and their coordinates, by which new samples are located.

    A sample less ``mean``, times ``onto``, is a point among the landmarks.

    Attributes:
        mean: ``[values]``.
        onto: ``[values, components]``.
        landmarks: ``[m, components]``.
        copies: ``[m]``, how many samples each landmark represents.
        widths: ``[m]``, the landmarks' scales of distance.
        reach_min: the least squared distance over width at which weights fall to 0.
        coordinates: ``[m, as many as wanted]``, 0 from the ``defined``-th on.
        defined: how many coordinates are in use, at least one.
        neighbours: at which neighbour weights fall to 0.
    """

    mean: Values
    onto: Values
    landmarks: Values
    copies: NDArray[np.float32]
    widths: NDArray[np.float32]
    reach_min: float
    coordinates: Values
    defined: int
    neighbours: int = NEIGHBOURS


def learn_neighbourhood(samples: Values, seed: int, length: float) -> Neighbourhood | None:
    """Learn the coordinates of landmarks; None if none is well defined, as among a few distinct samples.

    Args:
        samples: the landmarks ``[m, values]``, at least LANDMARKS_MIN.
        seed: determines the basis of each group of coordinates.
        length: root mean square length of a landmark's vector of coordinates.
    """
    mean, onto = half_whitening(samples, seed)
    check_wanted()
    points = np.asarray((samples - mean) @ onto, np.float32)
    return neighbourhood_of(points, mean, onto, seed, length)


def neighbourhood_of(
    points: Values, mean: Values, onto: Values, seed: int, length: float, wanted: Wanted = _WANTED
) -> Neighbourhood | None:
    """Learn the coordinates of points ``[m, components]``, which are samples less ``mean``, times ``onto``.

    None if none is well defined. Other arguments are those of :func:`learn_neighbourhood`.
    """
    apart = _squared_distances(points)
    first, copies = _distinct(apart)
    if len(first) <= wanted.neighbours:
        return None
    landmarks, apart = points[first], apart[np.ix_(first, first)]
    widths = np.sqrt(np.partition(apart, _WIDTH_AT, axis=1)[:, _WIDTH_AT])
    narrow = float(_NARROW * np.sqrt(copies @ apart @ copies) / copies.sum())
    widths = np.asarray(np.maximum(widths, narrow), np.float32)
    weights = _weights(np.asarray(apart / widths, np.float32), narrow, wanted.neighbours)
    check_wanted()
    embedded = _embedded(weights, copies, seed, wanted)
    defined = embedded.shape[1]
    if not defined:
        return None
    shares = weights * copies
    seen = shares @ embedded / shares.sum(axis=1, keepdims=True)
    middle = np.average(seen, axis=0, weights=copies)
    spread = np.sqrt(np.average(((seen - middle) ** 2).sum(axis=1), weights=copies))
    coordinates = np.zeros((len(landmarks), wanted.coordinates), np.float32)
    coordinates[:, :defined] = (embedded - middle) * (length / spread)
    counted = copies.astype(np.float32)
    return Neighbourhood(mean, onto, landmarks, counted, widths, narrow, coordinates, defined, wanted.neighbours)


def _squared_distances(points: Values) -> NDArray[np.float32]:
    """Compute squared distances, in float64 until the end.

    Those of near neighbours are small differences of large numbers.
    """
    exact = points.astype(np.float64)
    squares = (exact**2).sum(axis=1)
    apart = exact @ (-2 * exact.T)
    apart += squares
    apart += squares[:, None]
    return np.asarray(np.maximum(apart, 0), np.float32)


def _distinct(apart: NDArray[np.float32]) -> tuple[NDArray[np.intp], Reals]:
    """Return the first of each set of points that are equal but for rounding, ascending, and the sizes of the sets."""
    from scipy.sparse import csr_matrix  # comes with scikit-learn; most scorers never need it
    from scipy.sparse.csgraph import connected_components

    _, member = connected_components(csr_matrix(apart <= _SAME**2 * apart.mean()), directed=False)
    _, first, copies = np.unique(member, return_index=True, return_counts=True)
    order = np.argsort(first)
    return first[order], np.asarray(copies[order], np.float64)


def _weights(relative: NDArray[np.float32], reach_min: float, neighbours: int) -> NDArray[np.float32]:
    """Compute weights from squared distances over widths ``[n, m]``; they fall to 0 at the last of ``neighbours``."""
    reach = np.partition(relative, neighbours - 1, axis=1)[:, neighbours - 1 : neighbours]
    weights: NDArray[np.float32] = np.exp(-SHARPNESS * relative / np.maximum(reach, reach_min)) - np.exp(-SHARPNESS)
    return np.where(weights > NOTHING, weights, np.float32(0))


def _embedded(weights: NDArray[np.float32], copies: Reals, seed: int, wanted: Wanted) -> Reals:
    """Compute coordinates of landmarks ``[m, defined]``, those that vary least first.

    They are eigenvectors of the walk from neighbour to neighbour, which goes to a landmark as often as it has copies.
    The constant one carries no information and is left out.
    """
    from scipy.sparse import csr_matrix, diags
    from scipy.sparse.csgraph import connected_components

    graph = csr_matrix(weights - np.diag(np.diag(weights)))
    graph = graph.maximum(graph.T).astype(np.float64)
    degrees = np.maximum(graph @ copies, NOTHING)
    scale = diags(np.sqrt(copies / degrees))
    masses = np.sqrt(copies * degrees)
    frame = np.random.default_rng(seed).normal(size=(len(masses), wanted.coordinates))
    frame -= np.outer(masses, masses @ frame) / (masses @ masses)  # all results are orthogonal to the constant one
    count, piece = connected_components(graph, directed=False)
    pieces = np.where(piece[:, None] == np.arange(count), masses[:, None], 0)
    pieces /= np.linalg.norm(pieces, axis=0)  # the eigenvectors of eigenvalue 1
    known = min(count - 1, wanted.coordinates)
    found = [nearest_basis(pieces, frame[:, :known]) * _counting(1.0, wanted)]
    if known < wanted.coordinates:
        values, vectors = leading(scale @ graph @ scale, pieces, wanted.coordinates - known, frame[:, 0])
        for a, b in groups(values):
            basis = nearest_basis(vectors[:, a:b], frame[:, known + a : known + b])
            found.append(basis * _counting(float(values[a:b].mean()), wanted))
    return np.asarray(np.concatenate(found, axis=1) / masses[:, None])


def _counting(value: float, wanted: Wanted) -> float:
    """Return by how much coordinates of an eigenvalue are multiplied; one factor for all of a group."""
    return max(1 - value, _STEADIEST) ** -0.5 if wanted.weighted else 1.0
