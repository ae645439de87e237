"""Products of uint8 samples with int16 weights in exact integer arithmetic, by machine code made for the processor.

LLVM makes the code (:mod:`scorer_svc.machine_code`), by way of llvmlite, which is optional. Pure.
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
"""Takes the addresses and the number of samples, weights, scales, bias and what to fill, as :func:`logits` has them."""
Compiler = Callable[[int, int], Code]
"""Takes the numbers of features and classes. Raises Unavailable."""


class Unavailable(Exception):
    """No kernel can be made in this process; the message says why."""


@dataclass(frozen=True)
class Weights:
    """``[classes, features]`` int16 in the order in which ``code`` reads them, ``scales`` and ``bias`` ``[classes]``
    float32."""

    features: int
    ordered: NDArray[np.int16]
    scales: NDArray[np.float32]
    bias: NDArray[np.float32]
    code: Code


@cache
def machine_code(features: int, classes: int) -> Code:
    """Code for this processor, checked on a few samples. Unavailable without llvmlite, and where it fails."""
    try:
        from scorer_svc.machine_code import compiled, this_processor  # 50 MB and 0.15 s
    except Exception as error:  # a library of another system fails in many ways
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
    """Whether ``code`` gives what integer arithmetic gives, bit for bit, on samples and weights that include the
    extremes."""
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
    """Groups of classes, in them steps, in them a line for each class; zeros fill up the last step. Unavailable where
    ``compiler`` says so."""
    classes, features = weights.shape
    code = compiler(features, classes)
    steps = -(-features // PRODUCTS)
    whole = np.zeros((classes, steps, PRODUCTS), np.int16)
    whole.reshape(classes, -1)[:, :features] = weights
    groups = [whole[first : first + GROUP].transpose(1, 0, 2).ravel() for first in range(0, classes, GROUP)]
    return Weights(features, _aligned(np.concatenate(groups)), scales, bias, code)


def _aligned(values: NDArray[np.int16]) -> NDArray[np.int16]:
    """At the start of a cache line: a load that straddles two takes twice as long."""
    space = np.empty(values.nbytes + _CACHE_LINE, np.uint8)
    skip = -space.ctypes.data % _CACHE_LINE
    placed = space[skip : skip + values.nbytes].view(np.int16)
    placed[:] = values
    return placed


def logits(samples: NDArray[np.uint8], weights: Weights) -> NDArray[np.float32]:
    """``scales * (weights @ sample) + bias``, ``[classes, n]``, for each of ``[n, features]`` C-contiguous samples."""
    assert samples.flags.c_contiguous
    assert samples.shape[1:] == (weights.features,)
    found = np.empty((len(weights.bias), len(samples)), np.float32)
    if not len(samples):
        return found
    arrays = (weights.ordered, weights.scales, weights.bias, found)
    weights.code(samples.ctypes.data, len(samples), *(array.ctypes.data for array in arrays))
    return found
