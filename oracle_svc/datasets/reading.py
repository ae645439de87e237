"""Read arrays from .npy, IDX and gzipped IDX files into memory. The first bytes determine the format, not the name."""

from __future__ import annotations

import gzip
import io
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from labelloop.artifacts.idx import check_magic, parse_idx
from labelloop.errors import Corrupt, LimitExceeded
from labelloop.runtime.memory_limit import memory_limit
from numpy.typing import NDArray

from .array_file import NPY_MAGIC
from .file_access import open_file

GZIP_MAGIC = b"\x1f\x8b"
_GZIP_PART_BYTES = 16 * 1024 * 1024

DATA_BYTES_MAX = min(4 * 1024**3, memory_limit() // 4)
"""Bytes of what is held in memory: texts, tables, labels. While they are read, they are there twice."""


def unpacked(data: bytes, origin: str) -> bytes:
    """Return ``data`` decompressed if it is gzip, else unchanged.

    Raises Corrupt if it is truncated or damaged, LimitExceeded if it decompresses to more than ``DATA_BYTES_MAX``.
    """
    if not data.startswith(GZIP_MAGIC):
        return data
    with damage_named(origin):
        return _inflated(data, origin)


@contextmanager
def damage_named(origin: str) -> Iterator[None]:
    """Raise Corrupt, which names ``origin``, for what gzip says of damaged files."""
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        raise Corrupt(
            "GZIP_DAMAGED",
            f"{origin} is cut short or damaged ({error}): replace it with a whole copy, or remove it",
            origin=origin,
            error=error,
        ) from error


def _inflated(data: bytes, origin: str) -> bytes:
    """Decompress in parts, because a few megabytes of gzip can expand beyond the available memory."""
    parts, length = [], 0
    with gzip.open(io.BytesIO(data)) as file:
        while part := file.read(_GZIP_PART_BYTES):
            parts.append(part)
            length += len(part)
            check_size(length, origin)
    return b"".join(parts)


def check_size(data_bytes: int, origin: str) -> None:
    """Raise LimitExceeded for more than ``DATA_BYTES_MAX``, the most that is held in memory."""
    if data_bytes > DATA_BYTES_MAX:
        raise LimitExceeded(
            "DATA_TOO_LARGE",
            f"{origin} takes more than {DATA_BYTES_MAX / 1024**3:.1f} GiB of memory, in which texts, tables and labels "
            "are held: split it into smaller pools; arrays of numbers in .npy files may be larger",
            origin=origin,
            data_bytes=data_bytes,
            data_bytes_max=DATA_BYTES_MAX,
        )


def read_array(path: Path) -> NDArray[Any]:
    """Read the array in the file, of any shape and dtype.

    Raises InvalidInput for another kind of file, Corrupt for a damaged one, LimitExceeded for too large a one, and
    OSError if it cannot be opened.
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        head = _beginning(file) if size else b""  # a file of size 0 may be endless or block
        check_size(size, str(path))
        if head == NPY_MAGIC:
            return _read_npy(file, path)
        if head.startswith(GZIP_MAGIC):
            with gzip.open(file) as packed, damage_named(str(path)):
                head = packed.read(len(NPY_MAGIC))
            file.seek(0)
        check_magic(head, str(path))  # before the rest is read, which may be anything, of any size
        return parse_idx(unpacked(file.read(size), str(path)), str(path))


def _beginning(file: BinaryIO) -> bytes:
    head = file.read(len(NPY_MAGIC))
    file.seek(0)
    return head


def _read_npy(file: BinaryIO, path: Path) -> NDArray[Any]:
    try:
        # No pickles: loading one runs arbitrary code.
        array: NDArray[Any] = np.load(file, allow_pickle=False)
    except OSError:
        raise
    except Exception as error:  # numpy's parser raises almost any exception for a broken header
        raise Corrupt(
            "NPY_DAMAGED",
            f"{path} is cut short or damaged, or holds Python objects ({error}): save it again with numpy.save",
            path=path,
            error=error,
        ) from error
    return array
