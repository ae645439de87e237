"""How well a model knows how sure it may be. Pure."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

_BINS = 15
_LOWEST, _HIGHEST = math.log(0.05), math.log(20.0)
_PRIOR_DEVIATION = 0.5  # of the logarithm: a few answers, all right, must not make a model certain
_GOLDEN = (math.sqrt(5) - 1) / 2
_STEPS = 40  # to a hundred-millionth of where the search began


def calibration_error(probabilities: NDArray[np.floating], labels: NDArray[np.int64]) -> float:
    """The expected calibration error of probabilities ``[n, classes]``, in [0, 1]: the mean distance of confidence and
    accuracy over fifteen bins of equal width, weighted by what lies in them (Naeini, Cooper and Hauskrecht 2015)."""
    if not len(labels):
        return 0.0
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == labels
    bins = np.minimum((confidence * _BINS).astype(np.int64), _BINS - 1)
    gaps = np.bincount(bins, right - confidence, _BINS)
    return float(np.abs(gaps).sum() / len(labels))


def best_temperature(logits: Tensor, labels: Tensor) -> float:
    """What to divide logits ``[n, classes]`` by for the least log loss (Guo and others 2017), with a log-normal prior
    about 1, by golden-section search: the loss has one minimum. 1 where there are none."""
    count = len(labels)
    if not count:
        return 1.0
    below = (logits - logits.amax(1, keepdim=True)).T.contiguous().numpy()  # classes first: sums run along samples
    own = float(below[labels.numpy(), np.arange(count)].sum())

    def loss(log: float) -> float:
        sharpness = math.exp(-log)
        sums = np.exp(below * sharpness).sum(axis=0)
        return (float(np.log(sums).sum()) - own * sharpness + (log / _PRIOR_DEVIATION) ** 2 / 2) / count

    low, high = _LOWEST, _HIGHEST
    for _ in range(_STEPS):
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        if loss(left) <= loss(right):
            high = right
        else:
            low = left
    return math.exp((low + high) / 2)
