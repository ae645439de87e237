"""Where samples lie among each other: coordinates that change little between near neighbours, however far apart two
samples are that many such steps connect. What is labelled says much of its cluster then. Pure.

They are the first eigenvectors of the graph of near neighbours (Belkin and Niyogi 2003, with the scales of
Zelnik-Manor and Perona 2004), taken to new samples as the weighted mean of their neighbours' (Nyström's formula: Bengio
and others 2004). scikit-learn's spectral embedding has no way to take it to new samples.

Only what the samples define is kept. Eigenvectors whose eigenvalues are nearly equal span a space that is well defined,
but rounding, and thus the processor, decides which vectors of it a solver returns. Such a group is kept or left out as
a whole, and its basis is the one nearest to a random frame of the seed's, which fixes signs too. Duplicates are one
landmark that counts as often as they occur: among themselves they would be one another's neighbours and leave a graph
of unconnected pieces.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scorer_svc.principal import Values, half_whitening

LANDMARKS_MIN, LANDMARKS_MAX = 100, 4_000
COORDINATES = 24
NEIGHBOURS = 20
SHARPNESS = 2.0
NOTHING = 1e-5  # weights that rounding decides: less than this is none
GAP_MIN = 1e-3  # between eigenvalues, which are at most 1; rounding moves them by a thousandth of this
_WIDTH_AT = 7  # the neighbour whose distance is a landmark's width
_NARROW = 1e-2  # of the root mean square of all distances: less is no width
_SAME = 1e-3  # of the same: closer samples are duplicates
_FAR = 3.0  # taken from the eigenvalues of known vectors, to leave them behind all others, which are -1 at least
_WHOLE_MAX = 500  # landmarks of which all eigenvectors are computed, which takes a tenth of a second

Reals = NDArray[np.float64]


@dataclass(frozen=True)
class Neighbourhood:
    """Samples less ``mean`` ``[values]``, times ``onto`` ``[values, components]``, lie among ``landmarks``
    ``[m, components]`` of ``widths`` ``[m]``, each of which stands for a number of ``copies`` ``[m]``. Distances that
    are less than ``reach_min`` times a width are none. Of the ``coordinates`` ``[m, COORDINATES]`` the first
    ``defined`` are in use, one at least; the others are 0."""

    mean: Values
    onto: Values
    landmarks: Values
    copies: NDArray[np.float32]
    widths: NDArray[np.float32]
    reach_min: float
    coordinates: Values
    defined: int


def learn_neighbourhood(samples: Values, seed: int, length: float) -> Neighbourhood | None:
    """Of landmarks ``[m, values]``, at least LANDMARKS_MIN; ``length`` is the root mean square of all coordinates of a
    landmark together. None where no coordinate is well defined, as among a few distinct samples."""
    mean, onto = half_whitening(samples, seed)
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
    """In float64 until the end: what two large numbers differ by says how far apart near neighbours are."""
    exact = points.astype(np.float64)
    squares = (exact**2).sum(axis=1)
    apart = exact @ (-2 * exact.T)
    apart += squares
    apart += squares[:, None]
    return np.asarray(np.maximum(apart, 0), np.float32)


def _distinct(apart: NDArray[np.float32]) -> tuple[NDArray[np.intp], Reals]:
    """The first of each set of points that are the same but for rounding, ascending, and how many each stands for."""
    from scipy.sparse import csr_matrix  # with scikit-learn: most scorers never need it
    from scipy.sparse.csgraph import connected_components

    _, member = connected_components(csr_matrix(apart <= _SAME**2 * apart.mean()), directed=False)
    _, first, copies = np.unique(member, return_index=True, return_counts=True)
    order = np.argsort(first)
    return first[order], np.asarray(copies[order], np.float64)


def _weights(relative: NDArray[np.float32], reach_min: float) -> NDArray[np.float32]:
    """Of squared distances over landmarks' widths ``[n, m]``: they fall to 0 at the twentieth neighbour."""
    reach = np.partition(relative, NEIGHBOURS - 1, axis=1)[:, NEIGHBOURS - 1 : NEIGHBOURS]
    weights: NDArray[np.float32] = np.exp(-SHARPNESS * relative / np.maximum(reach, reach_min)) - np.exp(-SHARPNESS)
    return np.where(weights > NOTHING, weights, np.float32(0))


def _embedded(weights: NDArray[np.float32], copies: Reals, seed: int) -> Reals:
    """Coordinates of landmarks ``[m, defined]``, those that vary least first: eigenvectors of the walk from neighbour
    to neighbour, which goes to a landmark as often as it has copies. The constant one says nothing and is left out."""
    from scipy.sparse import csr_matrix, diags
    from scipy.sparse.csgraph import connected_components

    graph = csr_matrix(weights - np.diag(np.diag(weights)))
    graph = graph.maximum(graph.T).astype(np.float64)
    degrees = np.maximum(graph @ copies, NOTHING)
    scale = diags(np.sqrt(copies / degrees))
    masses = np.sqrt(copies * degrees)
    frame = np.random.default_rng(seed).normal(size=(len(masses), COORDINATES))
    frame -= np.outer(masses, masses @ frame) / (masses @ masses)  # all that is found is orthogonal to the constant
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
    """Of the space that orthonormal ``vectors`` ``[m, k]`` span, whatever basis of it they are: as many orthonormal
    vectors as ``frame`` ``[m, up to k]`` has, the nearest to these (the orthogonal Procrustes problem)."""
    left, _, right = np.linalg.svd(vectors.T @ frame, full_matrices=False)
    return np.asarray(vectors @ (left @ right))


def _leading(matrix: Any, known: Reals, count: int, start: Reals) -> tuple[Reals, Reals]:
    """Up to ``count`` eigenvectors orthogonal to those ``known``, and their eigenvalues, largest first, with the next
    one behind them: by Lanczos' method, or where that misses some, as of a repeated eigenvalue, by taking the whole
    matrix apart."""
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

    others = LinearOperator(matrix.shape, lambda vector: matrix @ vector - _FAR * (known @ (known.T @ vector)))
    values, vectors = eigsh(others, k=count, which="LA", v0=start)
    order = np.argsort(-values)
    return values[order], vectors[:, order]


def _of_the_whole(matrix: Any, known: Reals, count: int) -> tuple[Reals, Reals]:
    values, vectors = np.linalg.eigh(matrix.toarray() - _FAR * (known @ known.T))
    count = min(count, len(values) - known.shape[1])
    return values[::-1][: count + 1], vectors[:, ::-1][:, :count]
