"""Classify few samples by softmax regression with machine code, bit for bit as ONNX Runtime answers.

A run of ONNX Runtime takes some 40 microseconds in a server, of which the arithmetic is less than one: the rest is what
leads to it, with caches full of other things. Whether the code gives the same bits depends on the processor and on the
version of ONNX Runtime, so each model's answers are compared when it is loaded, and without llvmlite, or with any other
bit, there is no kernel and ONNX Runtime answers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scorer_svc.prefilter.integer_kernel import Unavailable
from scorer_svc.prefilter.linear_head import LinearSoftmax
from scorer_svc.row_kernel.layout import Code, groups_of, lines

SAMPLES_MAX = 16  # in one call; for more, ONNX Runtime's run is small beside the arithmetic
_CLASSES_MAX = 64  # predicted classes are varints of one byte
_WEIGHTS_MAX = 262_144  # 1 MiB for each of the models that are kept
_SEED = 7

Reference = Callable[[NDArray[Any]], NDArray[np.float32]]
"""Computes probabilities ``[n, classes]`` of samples ``[n, features]``, as ONNX Runtime does."""
Compiler = Callable[[int, int, str], Code]
"""Takes the numbers of features and classes and the samples' type. Raises Unavailable."""


@cache
def machine_code(features: int, classes: int, dtype: str) -> Code:
    """Compile code for this processor. Unavailable without llvmlite, or on processors without fused multiply-adds."""
    try:
        from labelloop.runtime.machine_code import this_processor  # 50 MB and 0.15 s

        from scorer_svc.row_kernel.machine_code import compiled
    except Exception as error:  # a library built for another system fails in many ways
        raise Unavailable(f"llvmlite cannot be imported: {error}") from error
    try:
        processor = this_processor()
        if not _fuses(processor.triple, processor.features):
            raise Unavailable(f"{processor.cpu or processor.triple} has no fused multiply-adds")
        return compiled(features, classes, dtype, processor)
    except Unavailable:
        raise
    except Exception as error:  # LLVM's errors share no other base
        raise Unavailable(f"llvmlite cannot compile for this processor: {error}") from error


def _fuses(triple: str, features: str) -> bool:
    return triple.startswith(("aarch64", "arm64")) or "+fma" in features.split(",")


class RowKernel:
    """Classifies up to ``SAMPLES_MAX`` samples at once; for one thread at a time. Made by :func:`row_kernel`.

    Attributes:
        dtype: type of the samples, "uint8" or "float32".
        sample_bytes: bytes of a sample.
    """

    def __init__(self, linear: LinearSoftmax, code: Code) -> None:
        self.dtype = linear.dtype
        self.sample_bytes = len(linear.kernel) * np.dtype(linear.dtype).itemsize
        self._code, self._lines = code, lines(linear.kernel, linear.bias)
        predicted, confidence = np.zeros(SAMPLES_MAX, np.uint8), np.zeros(SAMPLES_MAX, np.float32)
        written = (self._lines.weights, self._lines.bias, predicted, confidence)
        self._addresses = tuple(array.ctypes.data for array in written)
        self._predicted, self._confidence = predicted.data, confidence.data  # which keep the arrays

    def classify(self, samples: bytes) -> tuple[bytes, bytes] | None:
        """Return a byte for the class of each sample, and its probability as little-endian float32.

        None for no samples, part of one or more than ``SAMPLES_MAX``, and where ONNX Runtime must be asked: for values
        that are no finite numbers, or logits so far apart that some probabilities are no normal numbers.
        """
        count, rest = divmod(len(samples), self.sample_bytes)
        if rest or not 1 <= count <= SAMPLES_MAX or self._code(samples, count, *self._addresses) != count:
            return None
        return self._predicted[:count].tobytes(), self._confidence[:count].tobytes()


def row_kernel(
    linear: LinearSoftmax | None, reference: Reference, compiler: Compiler = machine_code
) -> RowKernel | None:
    """Return the kernel of ``linear``; None if there is none for such a model.

    Raises:
        Unavailable: No code can be compiled, or its answers differ from those of ``reference``.
    """
    if linear is None or linear.dtype not in {"uint8", "float32"}:
        return None
    features, classes = linear.kernel.shape
    if not (features and 2 <= classes <= _CLASSES_MAX and groups_of(classes) * 16 * features <= _WEIGHTS_MAX):
        return None
    if not (np.isfinite(linear.kernel).all() and np.isfinite(linear.bias).all()):
        return None
    kernel = RowKernel(linear, compiler(features, classes, linear.dtype))
    if not agrees(kernel, features, reference):
        raise Unavailable("ONNX Runtime adds up in another order on this processor")
    return kernel


def agrees(kernel: RowKernel, features: int, reference: Reference) -> bool:
    """Return whether the kernel answers as ``reference`` does, bit for bit, for samples one by one and together.

    An order of additions that differs shows in about every other sample, so that hundreds leave no doubt. A kernel that
    has no answer to most of them does not agree.
    """
    samples = _samples(features, kernel.dtype)
    known = 0
    for first in range(0, len(samples), SAMPLES_MAX):
        part = samples[first : first + SAMPLES_MAX]
        ones = np.concatenate([reference(part[place : place + 1]) for place in range(len(part))])
        if not np.array_equal(ones, reference(part)):
            return False
        expected = [(bytes([row.argmax()]), row.max().tobytes()) for row in ones]
        found = [kernel.classify(sample.tobytes()) for sample in part]
        known += sum(each is not None for each in found)
        if any(each not in (None, row) for each, row in zip(found, expected, strict=True)):
            return False
        together = kernel.classify(part.tobytes())
        if together not in (None, tuple(b"".join(each) for each in zip(*expected, strict=True))):
            return False
    return known > len(samples) // 2


def _samples(features: int, dtype: str) -> NDArray[Any]:
    """Return samples ``[n, features]`` that are dense and sparse, of large values and of small ones."""
    chance = np.random.default_rng(_SEED)
    values = chance.integers(0, 256, (12 * SAMPLES_MAX, features)).astype(np.float32)
    values *= chance.random(values.shape) < np.linspace(0.02, 1, len(values), dtype=np.float32)[:, None]
    if dtype == "uint8":
        values[::3] //= 16
        values[0], values[1] = 0, 255
        return values.astype(np.uint8)
    scales = np.geomspace(1e-4, 1, len(values)).astype(np.float32)[:, None]
    signed: NDArray[np.float32] = (values - 64) * scales
    signed[0] = 0
    return signed
