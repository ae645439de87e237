"""Compute squared distances between many points and a few. Pure functions.

They are computed from products, |x|^2 - 2xy + |y|^2, which is many times faster than from differences.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from labelloop.domain.abandonment import check_wanted
from numpy.typing import NDArray

from scorer_svc.strategies.candidates import Positions, Values

Rows = slice | Positions
Distances = NDArray[np.float32]  # squared

_NOISE = 4e-6  # of the squared lengths: float32 cannot tell such a distance from 0
_TILE = 2_000  # rows whose distances are held at once


class Points(ABC):
    """A set of points, given by their inner products; ``squares`` ``[n]`` are their squared lengths."""

    squares: NDArray[np.float32]

    @abstractmethod
    def products(self, rows: Rows, columns: Rows) -> NDArray[np.float32]:
        """Compute the inner products of the points of ``rows`` and ``columns``."""

    def distances(self, rows: Rows, columns: Rows) -> Distances:
        """Compute squared distances ``[rows, columns]``; 0 if only rounding is left."""
        lengths: Distances = self.squares[rows, None] + self.squares[columns]
        apart = lengths - 2 * self.products(rows, columns)
        apart[apart < _NOISE * lengths] = 0
        return apart

    def lower(self, nearest: Distances, chosen: Positions) -> None:
        """Lower ``nearest`` of the first points, in place, to their distances from the nearest of ``chosen``."""
        for start in range(0, len(nearest), _TILE):
            check_wanted()
            rows = slice(start, min(start + _TILE, len(nearest)))
            np.minimum(nearest[rows], self.distances(rows, chosen).min(axis=1), out=nearest[rows])


class Euclidean(Points):
    """The values themselves, less their mean: the shorter the points, the less is lost to rounding."""

    def __init__(self, values: Values) -> None:
        self._values = values - values.mean(axis=0, dtype=np.float64).astype(np.float32)
        self.squares = np.einsum("ij,ij->i", self._values, self._values)

    def products(self, rows: Rows, columns: Rows) -> NDArray[np.float32]:
        found: NDArray[np.float32] = self._values[rows] @ self._values[columns].T
        return found


class Gradients(Points):
    """The gradients of a softmax model's last layer if the predicted class were right.

    They are outer products of the errors ``[n, classes]`` and the values with a 1 appended; only their inner products
    are ever needed.
    """

    def __init__(self, probabilities: NDArray[np.float32], values: Values) -> None:
        self._errors, self._values = probabilities.copy(), values
        self._errors[np.arange(len(values)), probabilities.argmax(axis=1)] -= 1
        errors = np.einsum("ij,ij->i", self._errors, self._errors)
        self.squares = errors * (np.einsum("ij,ij->i", values, values) + 1)

    def products(self, rows: Rows, columns: Rows) -> NDArray[np.float32]:
        errors = self._errors[rows] @ self._errors[columns].T
        found: NDArray[np.float32] = errors * (self._values[rows] @ self._values[columns].T + 1)
        return found
