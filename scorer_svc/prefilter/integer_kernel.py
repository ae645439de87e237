"""Bound scores of uint8 samples from below in integer arithmetic, with machine code made for the processor.

LLVM makes the code (:mod:`scorer_svc.prefilter.machine_code`) by way of llvmlite, which is optional. No I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from labelloop.scorer.v1.scorer_pb2 import Strategy
from numpy.typing import NDArray

from scorer_svc.prefilter.layout import Layout, aligned, ordered
from scorer_svc.prefilter.quantisation import Quantised
from scorer_svc.prefilter.score_bounds import rounding_slack, slope
from scorer_svc.strategies.uncertainty import BY_MODEL

_NO_STRATEGY = 0

Code = Callable[..., None]
"""Takes the addresses of samples and of positions among them; the number of positions; the addresses of weights,
shifts, scales, bias and two numbers, slack and slope; a strategy, or 0 for logits; the addresses of memory to work in
and of the result."""


class Unavailable(Exception):
    """No kernel can be made in this process; the message says why."""


@dataclass(frozen=True)
class Kernel:
    """Machine code, and the layout of what it reads."""

    layout: Layout
    code: Code


Compiler = Callable[[int, int], list[Kernel]]
"""Takes the numbers of features and classes; returns kernels, the fastest first. Raises Unavailable."""


@dataclass(frozen=True)
class Weights:
    """The weights of a linear model in the layout of a kernel.

    Attributes:
        ordered: int8 or int16 ``[rows, features]``, in the order in which the kernel reads them.
        shifts: int32 ``[rows]``, added to the sums of products.
        scales: float32 ``[rows]``, by which sums are multiplied.
        bias: float32 ``[rows]``, added to that.
        side: 1 for bounds from below, -1 for bounds from above, with the scale and bias of the last row negated.
    """

    kernel: Kernel
    ordered: NDArray[np.signedinteger[Any]]
    shifts: NDArray[np.int32]
    scales: NDArray[np.float32]
    bias: NDArray[np.float32]
    side: int = 1


@cache
def machine_code(features: int, classes: int) -> list[Kernel]:
    """Compile kernels for this processor and check each on a few samples. Unavailable without llvmlite."""
    try:
        from labelloop.runtime.machine_code import this_processor  # 50 MB and 0.15 s

        from scorer_svc.prefilter.kernel_check import is_right
        from scorer_svc.prefilter.machine_code import compiled_kernel, layouts
    except Exception as error:  # a library built for another system fails in many ways
        raise Unavailable(f"llvmlite cannot be imported: {error}") from error
    try:
        processor = this_processor()
    except Exception as error:  # LLVM's errors share no other base
        raise Unavailable(f"llvmlite does not know this processor: {error}") from error
    name = processor.cpu or processor.triple
    return usable(layouts(features, classes, processor), lambda each: compiled_kernel(each, processor), is_right, name)


def usable(
    layouts: Sequence[Layout], compiler: Callable[[Layout], Kernel], is_right: Callable[[Kernel], bool], processor: str
) -> list[Kernel]:
    """Return the kernels that can be compiled and compute right numbers. Unavailable if there is none."""
    found, problem = [], ""
    for layout in layouts:
        try:
            kernel = compiler(layout)
        except Exception as error:  # LLVM's errors share no other base
            problem = f"llvmlite cannot compile for this processor: {error}"
            continue
        if is_right(kernel):
            found.append(kernel)
        else:
            problem = f"llvmlite's code for {processor} computes wrong sums"
    if not found:
        raise Unavailable(problem)
    return found


def order(quantised: Quantised, kernel: Kernel) -> Weights:
    """Arrange a model for a kernel."""
    shifts = kernel.layout.instructions.shift * quantised.weights.sum(axis=1, dtype=np.int64)
    return Weights(
        kernel,
        ordered(quantised.weights, kernel.layout),
        shifts.astype(np.int32),
        quantised.scales,
        quantised.bias,
    )


def opposite(weights: Weights) -> Weights:
    """Return weights for bounds from the other side."""
    sign = np.ones(len(weights.scales), np.float32)
    sign[-1] = -1
    return replace(weights, scales=weights.scales * sign, bias=weights.bias * sign, side=-weights.side)


def bounds(
    samples: NDArray[np.uint8], positions: NDArray[np.int64], weights: Weights, strategy: Strategy.ValueType
) -> NDArray[np.float32]:
    """Bound scores ``[n]`` from the side of ``weights``, for the samples at ``n`` ascending positions.

    Samples are ``[*, features]``.
    """
    assert strategy in BY_MODEL
    return _called(samples, positions, weights, int(strategy), 1)[: len(positions)]


def logits(samples: NDArray[np.uint8], positions: NDArray[np.int64], weights: Weights) -> NDArray[np.float32]:
    """Compute ``scales * (weights @ sample) + bias``, ``[rows, n]``, for samples at ascending positions.

    The last row are the errors.
    """
    layout = weights.kernel.layout
    blocks = _called(samples, positions, weights, _NO_STRATEGY, layout.rows).reshape(-1, layout.rows, layout.block)
    return blocks.transpose(1, 0, 2).reshape(layout.rows, -1)[:, : len(positions)]


def _called(
    samples: NDArray[np.uint8], positions: NDArray[np.int64], weights: Weights, strategy: int, numbers: int
) -> NDArray[np.float32]:
    """Call the code, which answers whole blocks of samples, with ``numbers`` for each sample."""
    layout = weights.kernel.layout
    assert samples.dtype == np.uint8
    assert samples.flags.c_contiguous
    assert samples.shape[1:] == (layout.features,)
    found = np.empty(-(-len(positions) // layout.block) * layout.block * numbers, np.float32)
    if not len(positions):
        return found
    assert 0 <= positions[0] <= positions[-1] < len(samples), "what code reads must be there"
    positions = np.ascontiguousarray(positions, np.int64)
    slack = weights.side * rounding_slack(strategy, layout.classes)
    parameters = np.array([slack, slope(strategy, layout.classes)], np.float32)
    scratch = aligned(np.zeros(layout.scratch, np.int32))
    arrays = (weights.ordered, weights.shifts, weights.scales, weights.bias, parameters)
    addresses = [array.ctypes.data for array in arrays]
    weights.kernel.code(
        samples.ctypes.data,
        positions.ctypes.data,
        len(positions),
        *addresses,
        strategy,
        scratch.ctypes.data,
        found.ctypes.data,
    )
    return found
