"""The integer kernel in numpy: slow, exact, and available on every machine."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scorer_svc.prefilter.instructions import Instructions
from scorer_svc.prefilter.integer_kernel import Code, Kernel
from scorer_svc.prefilter.layout import Layout
from scorer_svc.prefilter.score_bounds import lowest_scores

SIZES = [
    *((1, 2), (2, 3), (15, 4), (16, 5), (17, 9), (31, 10), (32, 11), (33, 12)),
    *((63, 19), (64, 20), (65, 21), (95, 7), (97, 2), (784, 10), (1_001, 3), (3_072, 4), (40, 100)),
]
"""Features and classes, around the lengths of vector registers and of groups of rows."""

INT8, INT8_SHIFTED, INT16 = (
    Instructions("vpdpbusd", 16, 32),
    Instructions("sdot", 4, 32),
    Instructions("neighbours", 8, 16),
)


def numpy_kernels(features: int, classes: int) -> list[Kernel]:
    """Make kernels of int8 and of int16 weights that read the same memory as the machine code."""
    return [numpy_kernel(Layout(features, classes, each)) for each in (INT8, INT16)]


def numpy_kernel(layout: Layout) -> Kernel:
    return Kernel(layout, _code(layout))


def _code(layout: Layout) -> Code:
    kind = ctypes.c_int8 if layout.weight is np.int8 else ctypes.c_int16

    def code(
        samples: int,
        positions: int,
        count: int,
        weights: int,
        shifts: int,
        scales: int,
        bias: int,
        numbers: int,
        strategy: int,
        scratch: int,
        found: int,
    ) -> None:
        blocks = -(-count // layout.block)
        chosen = array_at(positions, ctypes.c_int64, count)
        chosen = chosen[np.minimum(np.arange(blocks * layout.block), count - 1)]
        pool = array_at(samples, ctypes.c_uint8, int(chosen.max()) + 1, layout.features)
        values = pool[chosen].astype(np.int64) - layout.instructions.shift
        rows = _rows(array_at(weights, kind, layout.rows * layout.steps * layout.step), layout)
        sums = rows.astype(np.int64) @ values.T + array_at(shifts, ctypes.c_int32, layout.rows)[:, None]
        scale, offset = (array_at(address, ctypes.c_float, layout.rows)[:, None] for address in (scales, bias))
        logits = sums.astype(np.float32) * scale + offset
        if not strategy:
            answer = array_at(found, ctypes.c_float, blocks, layout.rows, layout.block)
            answer[:] = logits.reshape(layout.rows, blocks, layout.block).transpose(1, 0, 2)
            return
        wide, (slack, _) = logits.astype(np.float64), array_at(numbers, ctypes.c_float, 2)
        answer = lowest_scores(wide[:-1], wide[-1], strategy, slack)  # type: ignore[arg-type]
        array_at(found, ctypes.c_float, len(chosen))[:] = answer

    return code


def _rows(line: NDArray[Any], layout: Layout) -> NDArray[Any]:
    """Return the weights ``[rows, features]``."""
    rows, length = [], layout.steps * layout.step
    for first in range(0, layout.rows, layout.group):
        size = min(layout.group, layout.rows - first)
        group = line[first * length : (first + size) * length].reshape(layout.steps, size, layout.step)
        rows.append(group.transpose(1, 0, 2).reshape(size, -1)[:, : layout.features])
    return np.concatenate(rows)


def array_at(address: int, kind: Any, *shape: int) -> NDArray[Any]:
    """The memory at ``address``, as an array that shares it."""
    return np.ctypeslib.as_array(ctypes.cast(address, ctypes.POINTER(kind)), shape)
