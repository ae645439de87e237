"""Parse IDX, the array format of MNIST: a magic number, big-endian dimensions, big-endian data."""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelloop.errors import Corrupt, InvalidInput

# The third byte of the magic number is the element type; the first two are zero.
_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def parse_idx(data: bytes, origin: str) -> NDArray[Any]:
    """Parse an IDX file into an array that owns its memory, in native byte order.

    Args:
        data: The whole file; its header gives shape and dtype.
        origin: The source of the bytes, for error messages.

    Raises:
        InvalidInput: If ``data`` is not IDX at all.
        Corrupt: If its length does not match its header, or the header is impossible.
    """
    check_magic(data, origin)
    dtype, dimension_count = np.dtype(_DTYPES[data[2]]), data[3]
    header_length = 4 + 4 * dimension_count
    if len(data) < header_length:
        raise _damaged(origin, header_length, len(data))
    shape = struct.unpack(f">{dimension_count}I", data[4:header_length])
    expected_length = header_length + math.prod(shape) * dtype.itemsize
    if len(data) != expected_length:
        raise _damaged(origin, expected_length, len(data))
    return _filled(data, header_length, shape, dtype, origin)


def check_magic(head: bytes, origin: str) -> None:
    """Raise InvalidInput if ``head`` is not the beginning of an IDX file."""
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in _DTYPES:
        raise InvalidInput(
            "UNKNOWN_FORMAT",
            f"{origin} is neither a .npy file nor an IDX file (plain or .gz): save it with numpy.save",
            origin=origin,
        )


def _filled(data: bytes, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any], origin: str) -> NDArray[Any]:
    try:
        # A copy, because an array over ``bytes`` is read-only, which torch, for example, warns about.
        return np.frombuffer(data, dtype, offset=offset).reshape(shape).astype(dtype.newbyteorder("="))
    except ValueError as error:  # more dimensions than numpy supports, or a zero beside sizes too large
        raise Corrupt(
            "IDX_DAMAGED", f"{origin} has an impossible IDX header ({error})", origin=origin, error=error
        ) from error


def _damaged(origin: str, expected_length: int, length: int) -> Corrupt:
    return Corrupt(
        "IDX_DAMAGED",
        f"{origin} should be {expected_length} bytes long by its IDX header but is {length}: "
        "it is cut short or damaged, get a whole copy",
        origin=origin,
        expected_length=expected_length,
        length=length,
    )
