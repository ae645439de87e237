"""The integer kernel in numpy: slow, exact, and available on every machine."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scorer_svc.prefilter.integer_kernel import GROUP, PRODUCTS, Code

SIZES = [
    *((1, 2), (2, 3), (15, 4), (16, 5), (17, 9), (31, 10), (32, 11), (33, 12)),
    *((63, 19), (64, 20), (65, 21), (95, 7), (97, 2), (784, 10), (1_001, 3)),
]
"""Features and classes, around the lengths of vector registers and of groups of classes."""


def numpy_kernel(features: int, classes: int) -> Code:
    """Make a kernel that reads the same memory as the machine code."""
    steps = -(-features // PRODUCTS)

    def code(samples: int, count: int, weights: int, scales: int, bias: int, found: int) -> None:
        values = array_at(samples, ctypes.c_uint8, count, features).astype(np.int64)
        line = array_at(weights, ctypes.c_int16, classes * steps * PRODUCTS)
        scale, offset = (array_at(address, ctypes.c_float, classes) for address in (scales, bias))
        answer = array_at(found, ctypes.c_float, classes, count)
        for first in range(0, classes, GROUP):
            size = min(GROUP, classes - first)
            start = first * steps * PRODUCTS
            group = line[start : start + size * steps * PRODUCTS].reshape(steps, size, PRODUCTS)
            rows = group.transpose(1, 0, 2).reshape(size, -1)[:, :features].astype(np.int64)
            sums = (rows @ values.T).astype(np.float32)
            answer[first : first + size] = sums * scale[first : first + size, None] + offset[first : first + size, None]

    return code


def array_at(address: int, kind: Any, *shape: int) -> NDArray[Any]:
    """The memory at ``address``, as an array that shares it."""
    return np.ctypeslib.as_array(ctypes.cast(address, ctypes.POINTER(kind)), shape)
