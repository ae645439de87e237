"""Arrange the weights of softmax regression for machine code that classifies single samples. Pure functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LANES = 16  # classes at a time, a vector register of 512 bits
_CACHE_LINE = 64

Code = Callable[..., int]
"""Takes the samples (bytes, or their address), their number, and the addresses of weights, bias, classes found (uint8)
and their probabilities (float32); returns for how many samples the answer is known to be right."""


@dataclass(frozen=True)
class Lines:
    """The weights of a model as the code reads them.

    Attributes:
        weights: float32 ``[groups, features, LANES]``, at the start of a cache line; zero beyond the last class.
        bias: float32 ``[groups, LANES]``; beyond the last class so small that it is never the largest.
    """

    weights: NDArray[np.float32]
    bias: NDArray[np.float32]


def groups_of(classes: int) -> int:
    """Return into how many groups the classes are cut."""
    return -(-classes // LANES)


def lines(kernel: NDArray[np.float32], bias: NDArray[np.float32]) -> Lines:
    """Arrange ``kernel`` ``[features, classes]`` and ``bias`` ``[classes]`` by groups of classes."""
    features, classes = kernel.shape
    padded = np.zeros((features, groups_of(classes) * LANES), np.float32)
    padded[:, :classes] = kernel
    grouped = padded.reshape(features, -1, LANES).transpose(1, 0, 2)
    biases = np.full(padded.shape[1], -np.inf, np.float32)
    biases[:classes] = bias
    return Lines(_aligned(grouped), biases)


def _aligned(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Copy values to the start of a cache line: a load that straddles two takes twice as long."""
    space = np.empty(values.nbytes + _CACHE_LINE, np.uint8)
    skip = -space.ctypes.data % _CACHE_LINE
    placed = space[skip : skip + values.nbytes].view(np.float32).reshape(values.shape)
    placed[:] = values
    return placed
