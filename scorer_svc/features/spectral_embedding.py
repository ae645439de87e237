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
from itertools import pairwise
from typing import Any

import numpy as np
from labelloop.domain.abandonment import check_wanted
from numpy.typing import NDArray

from scorer_svc.numerics.pca import Values, half_whitening

LANDMARKS_MIN, LANDMARKS_MAX = 100, 4_000
COORDINATES = 24
NEIGHBOURS = 20
SHARPNESS = 2.0
NOTHING = 1e-5  # smaller weights are decided by rounding and count as 0
GAP_MIN = 1e-3  # between eigenvalues, which are at most 1; rounding moves them by a thousandth of this
_WIDTH_AT = 7  # the neighbour whose distance is a landmark's width
_NARROW = 1e-2  # the smallest width, as a share of the root mean square of all distances
_SAME = 1e-3  # a share of the same: closer samples are duplicates
_FAR = 3.0  # subtracted from eigenvalues of known vectors, to rank them below all others, which are -1 at least
_WHOLE_MAX = 500  # up to so many landmarks, all eigenvectors are computed, in a tenth of a second

Reals = NDArray[np.float64]


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
        coordinates: ``[m, COORDINATES]``, 0 from the ``defined``-th on.
        defined: how many coordinates are in use, at least one.
    """

    mean: Values
    onto: Values
    landmarks: Values
    copies: NDArray[np.float32]
    widths: NDArray[np.float32]
    reach_min: float
    coordinates: Values
    defined: int


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
    apart = _squared_distances(points)
    first, copies = _distinct(apart)
    if len(first) <= NEIGHBOURS:
        return None
    landmarks, apart = points[first], apart[np.ix_(first, first)]
    widths = np.sqrt(np.partition(apart, _WIDTH_AT, axis=1)[:, _WIDTH_AT])
    narrow = float(_NARROW * np.sqrt(copies @ apart @ copies) / copies.sum())
    widths = np.asarray(np.maximum(widths, narrow), np.float32)
    weights = _weights(np.asarray(apart / widths, np.float32), narrow)
    check_wanted()
    embedded = _embedded(weights, copies, seed)
    defined = embedded.shape[1]
    if not defined:
        return None
    shares = weights * copies
    seen = shares @ embedded / shares.sum(axis=1, keepdims=True)
    middle = np.average(seen, axis=0, weights=copies)
    spread = np.sqrt(np.average(((seen - middle) ** 2).sum(axis=1), weights=copies))
    coordinates = np.zeros((len(landmarks), COORDINATES), np.float32)
    coordinates[:, :defined] = (embedded - middle) * (length / spread)
    return Neighbourhood(mean, onto, landmarks, copies.astype(np.float32), widths, narrow, coordinates, defined)


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


def _weights(relative: NDArray[np.float32], reach_min: float) -> NDArray[np.float32]:
    """Compute weights from squared distances over widths ``[n, m]``; they fall to 0 at the twentieth neighbour."""
    reach = np.partition(relative, NEIGHBOURS - 1, axis=1)[:, NEIGHBOURS - 1 : NEIGHBOURS]
    weights: NDArray[np.float32] = np.exp(-SHARPNESS * relative / np.maximum(reach, reach_min)) - np.exp(-SHARPNESS)
    return np.where(weights > NOTHING, weights, np.float32(0))


def _embedded(weights: NDArray[np.float32], copies: Reals, seed: int) -> Reals:
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
    frame = np.random.default_rng(seed).normal(size=(len(masses), COORDINATES))
    frame -= np.outer(masses, masses @ frame) / (masses @ masses)  # all results are orthogonal to the constant one
    count, piece = connected_components(graph, directed=False)
    pieces = np.where(piece[:, None] == np.arange(count), masses[:, None], 0)
    pieces /= np.linalg.norm(pieces, axis=0)  # the eigenvectors of eigenvalue 1
    known = min(count - 1, COORDINATES)
    found = [_nearest_basis(pieces, frame[:, :known])]
    if known < COORDINATES:
        values, vectors = _leading(scale @ graph @ scale, pieces, COORDINATES - known, frame[:, 0])
        found += [_nearest_basis(vectors[:, a:b], frame[:, known + a : known + b]) for a, b in _groups(values)]
    return np.asarray(np.concatenate(found, axis=1) / masses[:, None])


def _groups(values: Reals) -> list[tuple[int, int]]:
    """Split ``values``, largest first, at gaps of GAP_MIN; return where each group begins and ends.

    The last group is left out: whether a gap follows it is not known.
    """
    return list(pairwise([0, *(np.flatnonzero(-np.diff(values) >= GAP_MIN) + 1).tolist()]))


def _nearest_basis(vectors: Reals, frame: Reals) -> Reals:
    """Return the orthonormal vectors of a space that are nearest to a frame (the orthogonal Procrustes problem).

    Args:
        vectors: orthonormal ``[m, k]``; the result depends only on the space that they span.
        frame: ``[m, up to k]``; the result has as many vectors.
    """
    left, _, right = np.linalg.svd(vectors.T @ frame, full_matrices=False)
    return np.asarray(vectors @ (left @ right))


def _leading(matrix: Any, known: Reals, count: int, start: Reals) -> tuple[Reals, Reals]:
    """Find leading eigenvectors orthogonal to those ``known``, by Lanczos' method or by decomposing the whole matrix.

    The whole matrix is decomposed if it is small or if Lanczos misses some vectors, as of a repeated eigenvalue.

    Returns:
        The eigenvalues of up to ``count`` vectors, largest first, followed by the next one, and the vectors.
    """
    from scipy.sparse.linalg import ArpackError

    if len(start) > _WHOLE_MAX:
        try:
            values, vectors = _lanczos(matrix, known, count, start)
            [following], _ = _lanczos(matrix, np.concatenate([known, vectors], axis=1), 1, start)
        except ArpackError:
            return _of_the_whole(matrix, known, count)
        if following < values[-1] + GAP_MIN / 1_000:
            return np.append(values, following), vectors
    return _of_the_whole(matrix, known, count)


def _lanczos(matrix: Any, known: Reals, count: int, start: Reals) -> tuple[Reals, Reals]:
    from scipy.sparse.linalg import LinearOperator, eigsh

    def times(vector: Reals) -> Any:
        check_wanted()
        return matrix @ vector - _FAR * (known @ (known.T @ vector))

    others = LinearOperator(matrix.shape, times)
    values, vectors = eigsh(others, k=count, which="LA", v0=start)
    order = np.argsort(-values)
    return values[order], vectors[:, order]


def _of_the_whole(matrix: Any, known: Reals, count: int) -> tuple[Reals, Reals]:
    values, vectors = np.linalg.eigh(matrix.toarray() - _FAR * (known @ known.T))
    count = min(count, len(values) - known.shape[1])
    return values[::-1][: count + 1], vectors[:, ::-1][:, :count]
