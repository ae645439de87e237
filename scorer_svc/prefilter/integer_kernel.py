"""Multiply uint8 samples by int16 weights in exact integer arithmetic, with machine code made for the processor.

LLVM makes the code (:mod:`scorer_svc.prefilter.machine_code`) by way of llvmlite, which is optional. No I/O.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

PRODUCTS = 32  # in one step, a vector register of 512 bits
GROUP = 10  # classes at a time, a register each
_CACHE_LINE = 64
_CHECKED_SAMPLES = 9

Code = Callable[..., None]
"""Takes the samples' address and number, and the addresses of weights, scales, bias and result; see :func:`logits`."""
Compiler = Callable[[int, int], Code]
"""Takes the numbers of features and classes. Raises Unavailable."""


class Unavailable(Exception):
    """No kernel can be made in this process; the message says why."""


@dataclass(frozen=True)
class Weights:
    """The weights of a linear model in the layout of the kernel.

    Attributes:
        ordered: int16 ``[classes, features]``, in the order in which ``code`` reads them.
        scales: float32 ``[classes]``.
        bias: float32 ``[classes]``.
    """

    features: int
    ordered: NDArray[np.int16]
    scales: NDArray[np.float32]
    bias: NDArray[np.float32]
    code: Code


@cache
def machine_code(features: int, classes: int) -> Code:
    """Compile code for this processor and check it on a few samples.

    Unavailable without llvmlite, or if it fails to compile, or if the code computes wrong sums.
    """
    try:
        from labelloop.runtime.machine_code import this_processor  # 50 MB and 0.15 s

        from scorer_svc.prefilter.machine_code import compiled
    except Exception as error:  # a library built for another system fails in many ways
        raise Unavailable(f"llvmlite cannot be imported: {error}") from error
    try:
        processor = this_processor()
        code = compiled(features, classes, processor)
    except Exception as error:  # LLVM's errors share no other base
        raise Unavailable(f"llvmlite cannot compile for this processor: {error}") from error
    if not is_exact(code, features, classes):
        raise Unavailable(f"llvmlite's code for {processor.cpu or processor.triple} computes wrong sums")
    return code


def is_exact(code: Code, features: int, classes: int) -> bool:
    """Check that ``code`` agrees with integer arithmetic bit for bit.

    The samples and weights include the extremes.
    """
    chance = np.random.default_rng(features * classes)
    samples = chance.integers(0, 256, (_CHECKED_SAMPLES, features)).astype(np.uint8)
    samples[:2] = [[0], [255]]
    largest = min(2**15 - 1, (2**31 - 1) // (255 * features))
    weights = chance.integers(-largest, largest + 1, (classes, features)).astype(np.int16)
    weights[0] = -largest
    scales, bias = chance.normal(size=(2, classes)).astype(np.float32)
    sums = samples.astype(np.int64) @ weights.T.astype(np.int64)
    expected = sums.astype(np.float32) * scales + bias
    return np.array_equal(logits(samples, order(weights, scales, bias, lambda *_: code)).T, expected)


def order(
    weights: NDArray[np.int16],
    scales: NDArray[np.float32],
    bias: NDArray[np.float32],
    compiler: Compiler = machine_code,
) -> Weights:
    """Arrange weights by groups of classes, then by steps, then by class; the last step is padded with zeros.

    Unavailable if ``compiler`` raises it.
    """
    classes, features = weights.shape
    code = compiler(features, classes)
    steps = -(-features // PRODUCTS)
    whole = np.zeros((classes, steps, PRODUCTS), np.int16)
    whole.reshape(classes, -1)[:, :features] = weights
    groups = [whole[first : first + GROUP].transpose(1, 0, 2).ravel() for first in range(0, classes, GROUP)]
    return Weights(features, _aligned(np.concatenate(groups)), scales, bias, code)


def _aligned(values: NDArray[np.int16]) -> NDArray[np.int16]:
    """Copy values to the start of a cache line: a load that straddles two takes twice as long."""
    space = np.empty(values.nbytes + _CACHE_LINE, np.uint8)
    skip = -space.ctypes.data % _CACHE_LINE
    placed = space[skip : skip + values.nbytes].view(np.int16)
    placed[:] = values
    return placed


def logits(samples: NDArray[np.uint8], weights: Weights) -> NDArray[np.float32]:
    """Compute ``scales * (weights @ sample) + bias``, ``[classes, n]``, for C-contiguous samples ``[n, features]``."""
    assert samples.flags.c_contiguous
    assert samples.shape[1:] == (weights.features,)
    found = np.empty((len(weights.bias), len(samples)), np.float32)
    if not len(samples):
        return found
    arrays = (weights.ordered, weights.scales, weights.bias, found)
    weights.code(samples.ctypes.data, len(samples), *(array.ctypes.data for array in arrays))
    return found
