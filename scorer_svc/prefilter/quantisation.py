"""Round the weights of a linear model to integers, and bound what that changes. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scorer_svc.prefilter.linear_head import LinearSoftmax

SAMPLE_MAX = 255
_SUM_MAX = 2**31 - 1
_SCALE_MIN = 1e-30  # smaller weights are dropped, which counts as an error
_UNIT_ROUNDOFF = 2.0**-24  # of float32
_ROUNDED_UP = 1 + 1e-6  # a few roundings of float32, and to spare


@dataclass(frozen=True)
class Quantised:
    """A linear model in integers: ``scales * (weights @ sample) + bias``.

    The last row is the error of a sample: by how much the difference of two of its logits can differ from that of the
    model's. Scores depend on nothing but these differences.

    Attributes:
        weights: int32 ``[classes + 1, features]``, of the magnitude that was asked for.
        scales: ``[classes + 1]``.
        bias: ``[classes + 1]``.
    """

    weights: NDArray[np.int32]
    scales: NDArray[np.float32]
    bias: NDArray[np.float32]

    def error(self, value: float) -> float:
        """Return the error of a sample whose values are all ``value``; none that are at most that has a greater one."""
        return float(self.bias[-1] + value * self.scales[-1] * self.weights[-1].astype(np.float64).sum())


def quantised(linear: LinearSoftmax, weight_max: int) -> Quantised:
    """Round a finite model to weights of at most ``weight_max``, whose sums of products fit in int32.

    The mean over the classes is taken off first, since it changes no score. What is left of a weight by rounding, the
    remainder, is multiplied by a sample's value and summed: the difference of two logits changes by no more than the
    sum over the features of the value times the range of the classes' remainders.

    To that is added what rounding in float32 changes: in the model's logit, in whatever order it is summed, by at most
    g(n + 1) times the sum of magnitudes, for n features, and here by g(3) times, with g(n) = n u / (1 - n u) (Higham
    2002, section 3.1); twice, for two logits.
    """
    kernel, bias = linear.kernel.astype(np.float64).T, linear.bias.astype(np.float64)
    centred = kernel - (kernel.max(axis=0) + kernel.min(axis=0)) / 2
    weights, scales = _rounded(centred, weight_max)
    approximation = weights * scales[:, None].astype(np.float64)
    theirs, ours = _rounding(len(linear.kernel) + 1), _rounding(3)
    remainders = np.ptp(centred - approximation, axis=0) * _ROUNDED_UP
    rounding = 2 * (theirs * np.abs(kernel).max(axis=0) + ours * np.abs(approximation).max(axis=0))
    errors, unit = _rounded_up(remainders + rounding, weight_max)
    constant = 2 * (theirs + ours) * np.abs(bias).max()
    return Quantised(
        np.vstack([weights, errors]),
        np.append(scales, unit * _ROUNDED_UP).astype(np.float32),
        np.append(bias, constant * _ROUNDED_UP).astype(np.float32),
    )


def _rounded(values: NDArray[np.float64], weight_max: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Split ``[rows, features]`` into whole numbers and scales ``[rows]``, to the nearest."""
    magnitude = np.abs(values)
    largest, in_all = magnitude.max(axis=1), magnitude.sum(axis=1)
    room = _SUM_MAX // SAMPLE_MAX - values.shape[1]  # each is rounded, by less than 1
    scales = np.maximum(np.maximum(largest / weight_max, in_all / room) * (1 + 1e-6), _SCALE_MIN).astype(np.float32)
    return np.rint(values / scales[:, None].astype(np.float64)).astype(np.int32), scales


def _rounded_up(values: NDArray[np.float64], weight_max: int) -> tuple[NDArray[np.int32], float]:
    """Split ``[features]`` into whole numbers and a unit whose products are at least as large."""
    room = _SUM_MAX // SAMPLE_MAX - len(values)
    unit = max(float(values.max()) / weight_max, float(values.sum()) / room, _SCALE_MIN) * _ROUNDED_UP
    return np.ceil(values / unit).astype(np.int32), unit


def _rounding(operations: int) -> Any:
    return operations * _UNIT_ROUNDOFF / (1 - operations * _UNIT_ROUNDOFF)
