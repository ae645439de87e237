"""Minimise a function by L-BFGS (Liu and Nocedal 1989). No I/O.

This is the compact form (Byrd, Nocedal and Schnabel 1994, section 2), which reads the memory twice a step, however many
pairs it holds; the two-loop recursion reads it four times and makes several calls for each pair. Products are NumPy's:
PyTorch takes three times as long to call on arrays this small, and on AMD processors its BLAS takes one and a half
times as long to multiply them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

_PAIRS = 10
_STEPS_MAX = 200
_ENOUGH = 1e-4  # of the decrease that the slope predicts (Armijo 1966)
_HALVINGS_MAX = 30
_CURVED = 1e-12  # of the squared change of the gradient


def lbfgs(
    loss_and_gradient: Callable[[Vector], tuple[float, Vector]], start: Vector, gradient_min: float
) -> tuple[Vector, int]:
    """Minimise from ``start`` ``[n]``; return the minimum and the steps taken.

    Ends when all components of the gradient are smaller than ``gradient_min`` in magnitude, after 200 steps, or when
    float64 can resolve no lower loss. ``loss_and_gradient`` must return a new gradient ``[n]`` each time.
    """
    at, memory = start, _Memory(len(start))
    loss, gradient = loss_and_gradient(at)
    for step in range(_STEPS_MAX):
        if np.abs(gradient).max() < gradient_min:
            return at, step
        direction = memory.direction(gradient)
        slope, length = float(gradient @ direction), 1.0
        for _ in range(_HALVINGS_MAX):
            moved = at + length * direction
            new_loss, new_gradient = loss_and_gradient(moved)
            if new_loss <= loss + _ENOUGH * length * slope:
                break
            length /= 2
        else:
            return at, step
        memory.note(moved - at, new_gradient - gradient, new_gradient)
        at, loss, gradient = moved, new_loss, new_gradient
    return at, _STEPS_MAX


class _Memory:
    """The most recent pairs of a step and the change of the gradient along it.

    Pairs are kept in a ring, the steps in the first half of ``_rows`` ``[2 * pairs, n]``, the changes in the second.
    ``_curvatures`` are the products of each step with its own change. ``_inverse`` is the inverse of the triangle of
    these and of the products of steps with later changes, ``_squares`` holds those of changes with each other, and
    ``_along`` those of all rows with the newest gradient: the difference of two successive ``_along`` gives the
    products with the change between them.

    A triangle's inverse without the oldest row and column is that of what is left of the triangle, and a new last
    column ``[u, c]`` gives the inverse the last column ``[-inverse @ u / c, 1 / c]``.
    """

    def __init__(self, size: int) -> None:
        self._rows = np.zeros((2 * _PAIRS, size))
        self._inverse, self._squares = np.zeros((2, _PAIRS, _PAIRS))
        self._curvatures = np.ones(_PAIRS)
        self._along = np.zeros(2 * _PAIRS)
        self._noted = 0

    def note(self, step: Vector, change: Vector, gradient: Vector) -> None:
        """Replace the oldest pair by a new one, unless the loss hardly curves along it.

        ``gradient`` is the gradient after the step.
        """
        curvature, square = float(step @ change), float(change @ change)
        slot = self._noted % _PAIRS
        if curvature > _CURVED * square:
            self._rows[slot], self._rows[_PAIRS + slot] = step, change
        along = self._rows @ gradient
        if curvature > _CURVED * square:
            by_steps, by_changes = (along - self._along).reshape(2, _PAIRS)
            inverse = self._inverse
            inverse[slot] = 0
            inverse[:, slot] = 0  # the oldest pair goes
            inverse[:, slot] = inverse @ by_steps / -curvature
            inverse[slot, slot] = 1 / curvature
            self._squares[slot] = self._squares[:, slot] = by_changes
            self._curvatures[slot], self._squares[slot, slot] = curvature, square
            self._noted += 1
        self._along = along

    def direction(self, gradient: Vector) -> Vector:
        """Return minus the product of the newest ``gradient`` with the estimate of the inverse Hessian."""
        if not self._noted:
            return -gradient
        count, newest = min(self._noted, _PAIRS), (self._noted - 1) % _PAIRS
        inverse, squares = self._inverse[:count, :count], self._squares[:count, :count]
        along_steps, along_changes = self._along[:count], self._along[_PAIRS : _PAIRS + count]
        size = self._curvatures[newest] / squares[newest, newest]
        shares = inverse @ along_steps
        bent = self._curvatures[:count] * shares + size * (squares @ shares - along_changes)
        weights = np.zeros(2 * _PAIRS)
        weights[:count] = -(bent @ inverse)
        weights[_PAIRS : _PAIRS + count] = size * shares
        direction: Vector = self._rows.T @ weights
        direction -= size * gradient
        return direction
