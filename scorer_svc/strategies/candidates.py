"""Define the samples that a strategy chooses a batch from. Pure functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float32]  # [n, values]
Positions = NDArray[np.intp]  # [count]
Scores = NDArray[np.float32]  # [count], in the order chosen


@dataclass(frozen=True)
class Candidates:
    """Samples to choose a batch from.

    Attributes:
        ids: ``[n]``, ascending.
        values: ``[n, d]``, pixels or features.
        probabilities: ``[n, classes]``; None before there is a model.
        chosen: ``[m, d]``, the values of samples that were chosen before.
    """

    ids: NDArray[np.uint32]
    values: Values
    probabilities: NDArray[np.float32] | None
    chosen: Values

    def in_rows(self) -> Candidates:
        """Return the same candidates in row-major arrays."""
        probabilities = None if self.probabilities is None else np.ascontiguousarray(self.probabilities, np.float32)
        values, chosen = (np.ascontiguousarray(each, np.float32) for each in (self.values, self.chosen))
        return Candidates(self.ids, values, probabilities, chosen)

    @property
    def margins(self) -> NDArray[np.float32]:
        assert self.probabilities is not None, "asked of strategies that have a model"
        two = np.partition(self.probabilities, -2, axis=1)[:, -2:]
        margins: NDArray[np.float32] = two[:, 1] - two[:, 0]
        return margins


Choose = Callable[[Candidates, int, int], tuple[Positions, Scores]]
"""Returns, for candidates, a count and a seed, the positions of the batch and the score of each."""


def in_place(positions: Positions) -> tuple[Positions, Scores]:
    """Return a batch whose samples have no score but their place in it."""
    return positions, np.arange(len(positions), dtype=np.float32)
