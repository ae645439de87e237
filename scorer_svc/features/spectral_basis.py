"""Find eigenvectors of a graph of neighbours, in a basis that rounding does not decide. Pure functions."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from labelloop.domain.abandonment import check_wanted
from numpy.typing import NDArray

GAP_MIN = 1e-3  # between eigenvalues, which are at most 1; rounding moves them by a thousandth of this
_FAR = 3.0  # subtracted from eigenvalues of known vectors, to rank them below all others, which are -1 at least
_WHOLE_MAX = 500  # up to so many landmarks, all eigenvectors are computed, in a tenth of a second

Reals = NDArray[np.float64]


def groups(values: Reals) -> list[tuple[int, int]]:
    """Split ``values``, largest first, at gaps of GAP_MIN; return where each group begins and ends.

    The last group is left out: whether a gap follows it is not known.
    """
    return list(pairwise([0, *(np.flatnonzero(-np.diff(values) >= GAP_MIN) + 1).tolist()]))


def nearest_basis(vectors: Reals, frame: Reals) -> Reals:
    """Return the orthonormal vectors of a space that are nearest to a frame (the orthogonal Procrustes problem).

    Args:
        vectors: orthonormal ``[m, k]``; the result depends only on the space that they span.
        frame: ``[m, up to k]``; the result has as many vectors.
    """
    left, _, right = np.linalg.svd(vectors.T @ frame, full_matrices=False)
    return np.asarray(vectors @ (left @ right))


def leading(matrix: Any, known: Reals, count: int, start: Reals) -> tuple[Reals, Reals]:
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
