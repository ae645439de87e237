"""Arrange weights in the order in which the integer kernel reads them. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scorer_svc.prefilter.instructions import Instructions

_GROUP_MAX = 12  # rows at a time: with two samples at once, or half the registers, a register for each sum
_CACHE_LINE = 64


@dataclass(frozen=True)
class Layout:
    """The sizes of a kernel.

    It multiplies each sample by ``rows`` rows of weights: one for each class, and one for the error of the sample.
    """

    features: int
    classes: int
    instructions: Instructions

    @property
    def rows(self) -> int:
        return self.classes + 1

    @property
    def step(self) -> int:
        """Values of a sample that fill a vector register of weights."""
        return self.instructions.lanes * 32 // self.instructions.weight_bits

    @property
    def steps(self) -> int:
        return -(-self.features // self.step)

    @property
    def group(self) -> int:
        """Rows that are multiplied at a time; the last group may be smaller."""
        groups = -(-self.rows // _GROUP_MAX)
        return -(-self.rows // groups)

    @property
    def block(self) -> int:
        """Samples that are scored at a time."""
        return self.instructions.lanes

    @property
    def scratch(self) -> int:
        """Words of memory to work in: vectors of sums for a group of rows, and logits, of a block."""
        return self.group * self.block * self.instructions.lanes + self.rows * self.block

    @property
    def weight(self) -> type[np.signedinteger[Any]]:
        return np.int8 if self.instructions.weight_bits == 8 else np.int16


def ordered(weights: NDArray[np.signedinteger[Any]], layout: Layout) -> NDArray[np.signedinteger[Any]]:
    """Arrange weights ``[rows, features]`` by groups of rows, then by steps, then by row, and pad the last step."""
    whole = np.zeros((layout.rows, layout.steps, layout.step), layout.weight)
    whole.reshape(layout.rows, -1)[:, : layout.features] = weights
    groups = [
        whole[first : first + layout.group].transpose(1, 0, 2).ravel() for first in range(0, layout.rows, layout.group)
    ]
    return aligned(np.concatenate(groups))


def aligned(values: NDArray[Any]) -> NDArray[Any]:
    """Copy values to the start of a cache line: a load that straddles two takes twice as long."""
    space = np.empty(values.nbytes + _CACHE_LINE, np.uint8)
    skip = -space.ctypes.data % _CACHE_LINE
    placed = space[skip : skip + values.nbytes].view(values.dtype).reshape(values.shape)
    placed[...] = values
    return placed
