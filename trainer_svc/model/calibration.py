"""Measure the calibration of a model, and fit its temperature. Pure functions."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

_BINS = 15
_LOWEST, _HIGHEST = math.log(0.05), math.log(20.0)
_PRIOR_DEVIATION = 0.5  # of the logarithm: a few predictions, all correct, must not make a model certain
_GOLDEN = (math.sqrt(5) - 1) / 2
_STEPS = 40  # narrow the interval to less than a hundred-millionth


def calibration_error(probabilities: NDArray[np.floating], labels: NDArray[np.int64]) -> float:
    """Compute the expected calibration error, in [0, 1], of probabilities ``[n, classes]``; 0 without samples.

    It is the mean distance of confidence and accuracy over fifteen bins of equal width, weighted by the samples in
    them (Naeini, Cooper and Hauskrecht 2015).
    """
    if not len(labels):
        return 0.0
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == labels
    bins = np.minimum((confidence * _BINS).astype(np.int64), _BINS - 1)
    gaps = np.bincount(bins, right - confidence, _BINS)
    return float(np.abs(gaps).sum() / len(labels))


def best_temperature(logits: Tensor, labels: Tensor, counting: Tensor | None = None) -> float:
    """Find the temperature to divide logits ``[n, classes]`` by for the least log loss (Guo and others 2017).

    The temperature has a log-normal prior about 1. Uses golden-section search, as the loss has one minimum. Returns 1
    without samples. ``counting`` ``[n]`` says how much each sample counts, 1 on average; None for equally much.
    """
    count = len(labels)
    if not count:
        return 1.0
    below = (logits - logits.amax(1, keepdim=True)).T.contiguous().numpy()  # classes first: sums run along samples
    shares = None if counting is None else counting.numpy()
    logits_own = below[labels.numpy(), np.arange(count)]
    own = float(logits_own.sum() if shares is None else logits_own @ shares)

    def loss(log: float) -> float:
        sharpness = math.exp(-log)
        losses = np.log(np.exp(below * sharpness).sum(axis=0))
        return (
            float(losses.sum() if shares is None else losses @ shares)
            - own * sharpness
            + (log / _PRIOR_DEVIATION) ** 2 / 2
        ) / count

    low, high = _LOWEST, _HIGHEST
    for _ in range(_STEPS):
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        if loss(left) <= loss(right):
            high = right
        else:
            low = left
    return math.exp((low + high) / 2)
