"""Parse IDX, the array format of MNIST: a magic number, big-endian dimensions, big-endian data."""

from __future__ import annotations

import math
import struct
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from labelloop.errors import Corrupt, InvalidInput

# The third byte of the magic number is the element type; the first two are zero.
_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


_DIMENSIONS_MAX = 32
HEADER_BYTES_MAX = 4 + 4 * _DIMENSIONS_MAX


class IdxHeader(NamedTuple):
    """The type of the values, which are big-endian, the array's shape, and where its values begin in the file."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int


def parse_idx(data: bytes, origin: str) -> NDArray[Any]:
    """Parse an IDX file into an array that owns its memory, in native byte order.

    Args:
        data: The whole file; its header gives shape and dtype.
        origin: The source of the bytes, for error messages.

    Raises:
        InvalidInput: If ``data`` is not IDX at all.
        Corrupt: If its length does not match its header, or the header is impossible.
    """
    header = idx_header(data[:HEADER_BYTES_MAX], origin)
    expected_length = header.offset + math.prod(header.shape) * header.dtype.itemsize
    if len(data) != expected_length:
        raise damaged(origin, expected_length, len(data))
    return _filled(data, header, origin)


def idx_header(head: bytes, origin: str) -> IdxHeader:
    """Parse the header of an IDX file, of which ``head`` is the first ``HEADER_BYTES_MAX`` bytes or all.

    Raises InvalidInput if the file is not IDX at all, Corrupt if it ends within its header or has too many dimensions.
    """
    check_magic(head, origin)
    dimension_count = head[3]
    if dimension_count > _DIMENSIONS_MAX:
        message = f"{origin} has an impossible IDX header ({dimension_count} dimensions)"
        raise Corrupt("IDX_DAMAGED", message, origin=origin)
    length = 4 + 4 * dimension_count
    if len(head) < length:
        raise damaged(origin, length, len(head))
    return IdxHeader(np.dtype(_DTYPES[head[2]]), struct.unpack(f">{dimension_count}I", head[4:length]), length)


def check_magic(head: bytes, origin: str) -> None:
    """Raise InvalidInput if ``head`` is not the beginning of an IDX file."""
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in _DTYPES:
        raise InvalidInput(
            "UNKNOWN_FORMAT",
            f"{origin} is neither a .npy file nor an IDX file (plain or .gz): save it with numpy.save",
            origin=origin,
        )


def _filled(data: bytes, header: IdxHeader, origin: str) -> NDArray[Any]:
    try:
        # A copy, because an array over ``bytes`` is read-only, which torch, for example, warns about.
        values = np.frombuffer(data, header.dtype, offset=header.offset)
        return values.reshape(header.shape).astype(header.dtype.newbyteorder("="))
    except ValueError as error:  # more dimensions than numpy supports, or a zero beside sizes too large
        raise Corrupt(
            "IDX_DAMAGED", f"{origin} has an impossible IDX header ({error})", origin=origin, error=error
        ) from error


def damaged(origin: str, expected_length: int, length: int) -> Corrupt:
    """Return the error for an IDX file of another length than its header says."""
    return Corrupt(
        "IDX_DAMAGED",
        f"{origin} should be {expected_length} bytes long by its IDX header but is {length}: "
        "it is cut short or damaged, get a whole copy",
        origin=origin,
        expected_length=expected_length,
        length=length,
    )
