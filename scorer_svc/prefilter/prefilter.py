"""Estimate scores of uint8 samples in integer arithmetic, several times as fast as the model does in float32.

The error of an estimate is bounded, so only samples that may be among the best are scored by the model itself, and the
result is that of a scan with the model alone, bit for bit.
"""

from __future__ import annotations

import numpy as np
from labelloop.scorer.v1.scorer_pb2 import Strategy
from numpy.typing import NDArray

from scorer_svc.prefilter.integer_kernel import Compiler, Weights, logits, machine_code, order
from scorer_svc.prefilter.linear_head import LinearSoftmax
from scorer_svc.prefilter.score_bounds import ESTIMATES, reach

_SAMPLE_MAX = 255
_WEIGHT_MAX = 2**15 - 1
_SUM_MAX = 2**31 - 1
_SCALE_MIN = 1e-30  # smaller weights are dropped, which counts as an error
_LOGIT_ERROR_MAX = 0.25  # with more, too many samples may be among the best
_CLASSES_MAX = 100  # with more, the model itself is as fast
_UNIT_ROUNDOFF = 2.0**-24  # of float32
_TILE_SAMPLES = 2_000  # they fit in the second-level cache


def quantised(kernel: NDArray[np.float32]) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
    """Split ``kernel ~ weights * scales`` into weights ``[features, classes]`` and scales ``[classes]``.

    The weights are as fine as int16 allows, and int32, in which the products with any sample are summed in any order.
    """
    magnitude = np.abs(kernel.astype(np.float64))
    largest, in_all = magnitude.max(axis=0), magnitude.sum(axis=0)
    room = _SUM_MAX // _SAMPLE_MAX - len(kernel)  # each weight is rounded, by less than 1
    scales = np.maximum(np.maximum(largest / _WEIGHT_MAX, in_all / room) * (1 + 1e-6), _SCALE_MIN).astype(np.float32)
    return np.rint(kernel / scales.astype(np.float64)).astype(np.int16), scales


def logit_error(linear: LinearSoftmax, weights: NDArray[np.int16], scales: NDArray[np.float32]) -> float:
    """Bound the difference between a logit of the prefilter and of the model in float32, for any sample.

    It includes what quantisation drops, and what rounding can do to either sum, the model's in whatever order it is
    added up (Higham 2002, section 3.1: n u / (1 - n u) times the sum of magnitudes).
    """
    bias = np.abs(linear.bias).astype(np.float64)
    approximation = weights * scales.astype(np.float64)
    dropped = _SAMPLE_MAX * np.abs(linear.kernel - approximation).sum(axis=0)
    ours = _SAMPLE_MAX * np.abs(approximation).sum(axis=0) + bias
    theirs = _SAMPLE_MAX * np.abs(linear.kernel.astype(np.float64)).sum(axis=0) + bias
    rounding = _rounding(3) * ours + _rounding(len(linear.kernel) + 1) * theirs
    return float((dropped + rounding).max())


def _rounding(operations: int) -> float:
    return operations * _UNIT_ROUNDOFF / (1 - operations * _UNIT_ROUNDOFF)


class Prefilter:
    """Estimates the scores of uint8 samples; made by :func:`prefilter`."""

    def __init__(self, weights: Weights, error: float) -> None:
        self._weights, self._logit_error = weights, error

    def reach(self, strategy: Strategy.ValueType, score: float) -> float:
        """Return the highest score by the model of a sample with the estimate ``score``, and the reverse."""
        return reach(strategy, score, self._logit_error, len(self._weights.bias))

    def estimates(self, samples: NDArray[np.uint8], strategy: Strategy.ValueType) -> NDArray[np.float32]:
        """Estimate ``[n]`` scores by ``strategy`` of samples ``[n, *shape]``.

        The lowest is the best, as in :mod:`scorer_svc.strategies.uncertainty`.
        """
        flat, estimate = samples.reshape(len(samples), -1), ESTIMATES[strategy]
        scores = np.empty(len(flat), np.float32)
        for start in range(0, len(flat), _TILE_SAMPLES):
            tile = flat[start : start + _TILE_SAMPLES]
            scores[start : start + len(tile)] = estimate(logits(tile, self._weights))
        return scores


def prefilter(linear: LinearSoftmax | None, compiler: Compiler = machine_code) -> Prefilter | None:
    """Make the prefilter of a model; None if it would not pay.

    It pays neither for anything but softmax regression over uint8, nor for weights so large that estimates would
    exclude nothing. Unavailable if ``compiler`` makes no kernel here.
    """
    if linear is None or linear.dtype != "uint8" or not 2 <= len(linear.bias) <= _CLASSES_MAX:
        return None
    if not (np.isfinite(linear.kernel).all() and np.isfinite(linear.bias).all()):
        return None
    weights, scales = quantised(linear.kernel)
    error = logit_error(linear, weights, scales)
    if error > _LOGIT_ERROR_MAX:
        return None
    return Prefilter(order(weights.T, scales, linear.bias, compiler), error)
