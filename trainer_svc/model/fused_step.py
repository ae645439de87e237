"""Take the steps of the published fit by machine code made for the processor.

A step in PyTorch is a dozen calls, which read the samples twice. The code (:mod:`trainer_svc.model.fused_code`) reads
them once; it comes from LLVM by way of llvmlite, which is optional. No I/O.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

LANES = 16  # float32 values of a vector register of 512 bits
TILE = 16  # samples between the two halves of a step: with the gradient, they fit into the nearest caches
CLASSES_MAX = LANES
_CACHE_LINE = 64
_CHECKED_SAMPLES = 2 * TILE + 3  # whole tiles, and an odd number beyond

Floats = NDArray[np.float32]


class Unavailable(Exception):
    """No code can be made in this process for a model of this size; the message says why."""


class StepFunctions(NamedTuple):
    """See :mod:`trainer_svc.model.fused_code`."""

    gradient: Callable[..., None]
    adam: Callable[..., None]
    correct: Callable[..., int]


Compiler = Callable[[int, int], StepFunctions]
"""Takes the numbers of features and classes. Raises Unavailable."""


def width(features: int) -> int:
    """Return the length of a class's weights in memory: a multiple of ``LANES``."""
    return -(-features // LANES) * LANES


@cache
def step_functions(features: int, classes: int) -> StepFunctions:
    """Compile the functions for this processor and check them on a few samples.

    Unavailable without llvmlite, for many classes, or if it fails to compile, or if the code computes something else.
    """
    if classes > CLASSES_MAX:
        raise Unavailable(f"{classes} classes are more than {CLASSES_MAX}")
    try:
        from labelloop.runtime.machine_code import this_processor  # 50 MB and 0.15 s

        from trainer_svc.model import fused_code
    except Exception as error:  # a library built for another system fails in many ways
        raise Unavailable(f"llvmlite cannot be imported: {error}") from error
    try:
        functions = StepFunctions(*fused_code.step_functions(features, classes, this_processor()))
    except Exception as error:  # LLVM's errors share no other base
        raise Unavailable(f"llvmlite cannot compile for this processor: {error}") from error
    if not is_right(functions, features, classes):
        raise Unavailable("llvmlite's code for this processor computes wrong gradients")
    return functions


class FusedSteps:
    """Adam's steps on one training set, and the accuracy after each of them on a stopping set.

    Args:
        training: Samples, float32 ``[n, features + 1]``, the last column 1, and labels ``[n]``; ``n`` is at least 1.
        stopping: The same of the stopping set.
        start: Weights and Adam's two moments, ``[classes, features + 1]`` each.
        compiler: Makes the code.

    Raises:
        Unavailable: If there is no code for a model of this size.
    """

    def __init__(
        self,
        training: tuple[Floats, NDArray[Any]],
        stopping: tuple[Floats, NDArray[Any]],
        start: tuple[Floats, Floats, Floats],
        compiler: Compiler = step_functions,
    ) -> None:
        classes, columns = start[0].shape
        self._functions, self._layout = compiler(columns - 1, classes), _Layout(columns - 1, classes)
        self._training, self._stopping = _LabelledSet(*training), _LabelledSet(*stopping)
        self._moving = [self._layout.placed(values) for values in start]
        self._gradient = self._layout.nothing()

    def take_step(self, rate: float) -> None:
        """Move the weights by ``rate``, in which Adam's corrections of the moments are included."""
        self._functions.gradient(*self._training.arguments, self._moving[0].ctypes.data, self._gradient.ctypes.data)
        addresses = [values.ctypes.data for values in (*self._moving, self._gradient)]
        share = 1 / self._training.arguments.size
        self._functions.adam(*addresses, len(self._gradient) // LANES, share, rate)

    def count_correct(self) -> int:
        """Count the samples of the stopping set to which the weights assign their class."""
        return self._functions.correct(*self._stopping.arguments, self._moving[0].ctypes.data)

    def weights(self) -> Floats:
        """Return a copy of the weights, ``[classes, features + 1]``."""
        return self._layout.taken(self._moving[0])

    def moments(self) -> tuple[Floats, Floats]:
        """Return copies of Adam's moments."""
        return self._layout.taken(self._moving[1]), self._layout.taken(self._moving[2])


class _Arguments(NamedTuple):
    """Samples' address and distance in values, labels' address, and how many there are."""

    samples: int
    stride: int
    labels: int
    size: int


class _LabelledSet:
    """Samples and labels in memory that lasts as long as this object."""

    def __init__(self, samples: Floats, labels: NDArray[Any]) -> None:
        self._samples, self._labels = np.ascontiguousarray(samples), labels.astype(np.int32)
        assert self._samples.dtype == np.float32
        assert len(labels) == len(samples) >= 1
        self.arguments = _Arguments(
            self._samples.ctypes.data, self._samples.shape[1], self._labels.ctypes.data, len(labels)
        )


@dataclass(frozen=True)
class _Layout:
    """How the code has weights: class after class, each padded to a multiple of ``LANES``, then a vector of biases."""

    features: int
    classes: int

    def nothing(self) -> Floats:
        """Return zeros that begin at a cache line."""
        size = self.classes * width(self.features) + LANES
        space = np.zeros(4 * size + _CACHE_LINE, np.uint8)
        skip = -space.ctypes.data % _CACHE_LINE
        return space[skip : skip + 4 * size].view(np.float32)

    def placed(self, values: Floats) -> Floats:
        """Copy ``[classes, features + 1]`` into the layout."""
        memory = self.nothing()
        kernel, bias = self._parts(memory)
        kernel[:], bias[:] = values[:, :-1], values[:, -1]
        return memory

    def taken(self, memory: Floats) -> Floats:
        """Copy out of the layout, ``[classes, features + 1]``."""
        kernel, bias = self._parts(memory)
        return np.concatenate([kernel, bias[:, None]], 1)

    def _parts(self, memory: Floats) -> tuple[Floats, Floats]:
        kernel = memory[:-LANES].reshape(self.classes, -1)[:, : self.features]
        return kernel, memory[-LANES:][: self.classes]


def is_right(functions: StepFunctions, features: int, classes: int) -> bool:
    """Check a step and a count against NumPy in float64.

    Adam's first step from zero moments moves each weight by the sign of its gradient, so the second moment is compared.
    """
    chance = np.random.default_rng(features * classes)
    samples = chance.random((_CHECKED_SAMPLES, features + 1), np.float32)
    samples[:, -1] = 1
    labels = chance.integers(0, classes, _CHECKED_SAMPLES)
    weights = chance.normal(size=(classes, features + 1)).astype(np.float32) / np.float32(np.sqrt(features))
    nothing = np.zeros_like(weights)
    steps = FusedSteps((samples, labels), (samples, labels), (weights, nothing, nothing), lambda *_: functions)
    logits = samples.astype(np.float64) @ weights.T
    if steps.count_correct() != int((logits.argmax(axis=1) == labels).sum()):
        return False
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    errors = raised / raised.sum(axis=1, keepdims=True) - np.eye(classes)[labels]
    gradient = errors.T @ samples / _CHECKED_SAMPLES
    steps.take_step(0.5)
    first, second = steps.moments()
    moved = weights - 0.5 * first.astype(np.float64) / (np.sqrt(second.astype(np.float64)) + 1e-8)
    pairs = ((first, 0.1 * gradient), (second, 0.001 * gradient**2), (steps.weights(), moved))
    return all(np.allclose(found, expected, rtol=1e-3, atol=1e-6) for found, expected in pairs)
