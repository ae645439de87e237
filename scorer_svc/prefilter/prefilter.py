"""Bound scores of uint8 samples in integer arithmetic, several times as fast as the model computes them in float32.

No score is below its bound, so only samples that may be among the best are scored by the model itself, and the result
is that of a scan with the model alone, bit for bit.
"""

from __future__ import annotations

import numpy as np
from labelloop.scorer.v1.scorer_pb2 import Strategy
from numpy.typing import NDArray

from scorer_svc.prefilter.integer_kernel import Compiler, Kernel, Weights, bounds, machine_code, opposite, order
from scorer_svc.prefilter.linear_head import LinearSoftmax
from scorer_svc.prefilter.quantisation import SAMPLE_MAX, quantised

_ERROR_MAX = 6.0  # in the difference of two logits; with more, rounding alone excludes next to nothing
_BRIGHTNESS = 0.25  # of a sample, on average, for which that holds
_CLASSES_MAX = 100  # with more, the model itself is as fast


class Screen:
    """Bounds the scores of uint8 samples, with one kernel."""

    def __init__(self, weights: Weights) -> None:
        self._weights, self._opposite = weights, opposite(weights)

    @property
    def weight_bits(self) -> int:
        return self._weights.kernel.layout.instructions.weight_bits

    def lowest(
        self, samples: NDArray[np.uint8], positions: NDArray[np.intp], strategy: Strategy.ValueType
    ) -> NDArray[np.float32]:
        """Bound the scores ``[n]`` by ``strategy`` from below, of those samples ``[*, *shape]`` at ascending positions.

        The lowest score is the best, as in :mod:`scorer_svc.strategies.uncertainty`.
        """
        return bounds(_flat(samples), positions, self._weights, strategy)

    def highest(
        self, samples: NDArray[np.uint8], positions: NDArray[np.intp], strategy: Strategy.ValueType
    ) -> NDArray[np.float32]:
        """Bound the scores from above."""
        return bounds(_flat(samples), positions, self._opposite, strategy)


class Prefilter:
    """Bounds the scores of uint8 samples; made by :func:`prefilter`.

    Attributes:
        screens: One at least; the fastest first, the most precise last.
    """

    def __init__(self, screens: list[Screen]) -> None:
        self.screens = screens


def _flat(samples: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(samples.reshape(len(samples), -1))


def prefilter(linear: LinearSoftmax | None, compiler: Compiler = machine_code) -> Prefilter | None:
    """Make the prefilter of a model; None if it would not pay.

    It pays neither for anything but softmax regression over uint8, nor for weights so large that bounds would exclude
    nothing. Unavailable if ``compiler`` makes no kernel here.
    """
    if linear is None or linear.dtype != "uint8" or not 2 <= len(linear.bias) <= _CLASSES_MAX:
        return None
    if not (np.isfinite(linear.kernel).all() and np.isfinite(linear.bias).all()):
        return None
    features, classes = linear.kernel.shape
    screens = [screen for kernel in compiler(features, classes) if (screen := _screen(linear, kernel))]
    return Prefilter(screens) if screens else None


def _screen(linear: LinearSoftmax, kernel: Kernel) -> Screen | None:
    """Return a screen that uses ``kernel``; None if it would be too coarse."""
    model = quantised(linear, kernel.layout.instructions.weight_max)
    if model.error(SAMPLE_MAX * _BRIGHTNESS) > _ERROR_MAX:
        return None
    return Screen(order(model, kernel))
