"""Fit softmax regression as in the article, by full-batch Adam with the gradient in closed form. No I/O.

Weights have the shape ``[classes, features + 1]``, the bias last: in this layout the two matrix products of a step run
about three times faster on a CPU than in ``[features, classes]``, and one product serves weights and bias.

Adam: Kingma and Ba 2015, end of section 2: the epsilon is outside the bias correction, as in TensorFlow 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from torch import Tensor

from trainer_svc.model.fused_step import Compiler, FusedSteps, Unavailable, step_functions

_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8
_PATIENCE_STEPS = 10
_PUBLISHED_RATE = 0.1


def settle_arithmetic() -> None:
    """Set up the calling thread for fits that are reproducible and fast; call it before the thread's first fit.

    PyTorch and NumPy's BLAS compute on one thread, so that sums have one order. Denormals are flushed, because
    otherwise a fit that saturates spends most of its time on them.
    """
    torch.set_num_threads(1)
    threadpool_limits(1, user_api="blas")
    torch.set_flush_denormal(True)


class Count(NamedTuple):
    """Number of correct predictions, and of all predictions."""

    correct: int
    total: int


@dataclass(frozen=True)
class AdamState:
    """Weights ``[classes, features + 1]``, Adam's moments of the same shape, and the number of steps taken."""

    weights: Tensor
    first_moment: Tensor
    second_moment: Tensor
    step: int


@dataclass(frozen=True)
class Fitted:
    """A fit's result.

    Attributes:
        state: The best weights, and Adam's moments and step at the end.
        steps: Steps of this fit.
        stopping: Accuracy of the best weights on the stopping set.
        why_torch: Why PyTorch took the steps; empty if machine code did.
    """

    state: AdamState
    steps: int
    stopping: Count
    why_torch: str = ""


def start_state(class_count: int, feature_count: int, *, scale: float, seed: int) -> AdamState:
    """Create a state with zero moments, and weights that are zero or normal with standard deviation ``scale``."""
    shape = (class_count, feature_count + 1)
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(shape, generator=generator) * scale if scale else torch.zeros(shape)
    return AdamState(weights, torch.zeros(shape), torch.zeros(shape), 0)


def with_bias(samples: NDArray[np.generic]) -> Tensor:
    """Convert samples ``[n, *shape]`` to float32 features ``[n, features + 1]``, the last of which is 1.

    Samples are uint8 pixels, which are scaled by 1/255, or float32.
    """
    features = np.ones((len(samples), int(np.prod(samples.shape[1:])) + 1), np.float32)
    features[:, :-1] = samples.reshape(len(samples), -1)
    if samples.dtype == np.uint8:
        features[:, :-1] /= 255
    return torch.from_numpy(features)


class Steps(Protocol):
    """Adam's steps on one training set, and the accuracy after each of them on a stopping set."""

    def take_step(self, rate: float) -> None:
        """Move the weights by ``rate``, in which Adam's corrections of the moments are included."""

    def count_correct(self) -> int:
        """Count the samples of the stopping set to which the weights assign their class."""

    def weights(self) -> NDArray[Any]:
        """Return a copy of the weights, ``[classes, features + 1]``."""

    def moments(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return copies of Adam's moments."""


class TorchSteps:
    """Steps by PyTorch, in place and with buffers that are allocated once."""

    def __init__(
        self, features: Tensor, labels: Tensor, stop_features: Tensor, stop_labels: Tensor, start: AdamState
    ) -> None:
        self._features, self._features_t = features, features.T
        self._stopping = stop_features, stop_labels
        self._weights = start.weights.clone()
        self._first, self._second = start.first_moment.clone(), start.second_moment.clone()
        targets = torch.zeros(len(self._weights), len(labels), dtype=self._weights.dtype)
        self._targets = targets.scatter_(0, labels[None], 1.0)
        self._probabilities = torch.empty_like(self._targets)
        self._gradient, self._scale = torch.empty_like(self._weights), torch.empty_like(self._weights)

    def take_step(self, rate: float) -> None:
        torch.mm(self._weights, self._features_t, out=self._probabilities)
        torch.softmax(self._probabilities, 0, out=self._probabilities)
        self._probabilities.sub_(self._targets)
        torch.mm(self._probabilities, self._features, out=self._gradient)
        self._gradient.div_(len(self._features))
        self._first.mul_(_BETA1).add_(self._gradient, alpha=1 - _BETA1)
        self._second.mul_(_BETA2).addcmul_(self._gradient, self._gradient, value=1 - _BETA2)
        torch.sqrt(self._second, out=self._scale).add_(_EPSILON)
        self._weights.addcdiv_(self._first, self._scale, value=-rate)

    def count_correct(self) -> int:
        return count_correct(self._weights, *self._stopping).correct

    def weights(self) -> NDArray[Any]:
        return self._weights.numpy().copy()

    def moments(self) -> tuple[NDArray[Any], NDArray[Any]]:
        return self._first.numpy(), self._second.numpy()


def count_correct(weights: Tensor, features: Tensor, labels: Tensor) -> Count:
    """Count the samples, ``features`` ``[n, features + 1]``, that the weights assign to their class."""
    largest = torch.mm(weights, features.T).numpy().argmax(axis=0)  # PyTorch takes five times as long along this axis
    return Count(int((largest == labels.numpy()).sum()), len(labels))


def fit_published(
    features: Tensor,
    labels: Tensor,
    stop_features: Tensor,
    stop_labels: Tensor,
    start: AdamState,
    compiler: Compiler = step_functions,
) -> Fitted:
    """Fit as in the article, with early stopping on the accuracy on a stopping set.

    Stops at the tenth step in a row that does not beat the best accuracy so far. Keeps the best weights, but Adam's
    moments and step as they are at the end. Steps are taken by the code of ``compiler`` if there is some, else by
    PyTorch; the two differ by rounding.
    """
    steps, why = _steps(features, labels, stop_features, stop_labels, start, compiler)
    step, best, best_weights, since_best = start.step, -1, steps.weights(), 0
    while since_best < _PATIENCE_STEPS:
        step += 1
        steps.take_step(_PUBLISHED_RATE * (1 - _BETA2**step) ** 0.5 / (1 - _BETA1**step))
        correct = steps.count_correct()
        since_best += 1
        if correct > best:
            best, best_weights, since_best = correct, steps.weights(), 0
    first, second = (torch.from_numpy(moment) for moment in steps.moments())
    state = AdamState(torch.from_numpy(best_weights), first, second, step)
    return Fitted(state, step - start.step, Count(best, len(stop_labels)), why)


def _steps(
    features: Tensor,
    labels: Tensor,
    stop_features: Tensor,
    stop_labels: Tensor,
    start: AdamState,
    compiler: Compiler,
) -> tuple[Steps, str]:
    """Return the steps, and why PyTorch takes them; empty if it does not."""
    moving = start.weights, start.first_moment, start.second_moment
    try:
        training, stopping = (features.numpy(), labels.numpy()), (stop_features.numpy(), stop_labels.numpy())
        weights, first, second = (each.numpy() for each in moving)
        return FusedSteps(training, stopping, (weights, first, second), compiler), ""
    except Unavailable as error:
        return TorchSteps(features, labels, stop_features, stop_labels, start), str(error)
