"""Arrays out of files: .npy, IDX, gzipped IDX. The first bytes tell which, names do not count."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from labelloop.wire.errors import Corrupt
from numpy.typing import NDArray

from .idx import parse_idx

_NPY_MAGIC = b"\x93NUMPY"
_GZIP_MAGIC = b"\x1f\x8b"


def unpacked(data: bytes, origin: str) -> bytes:
    """``data`` without its gzip wrapping, if it has one. Raises Corrupt when that is cut short or damaged."""
    if not data.startswith(_GZIP_MAGIC):
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise Corrupt(
            "GZIP_DAMAGED",
            f"{origin} is cut short or damaged ({error}): replace it with a whole copy, or remove it",
            origin=origin,
            error=error,
        ) from error


def read_array(path: Path) -> NDArray[Any]:
    """The array in the file, whatever its shape and dtype.

    Raises InvalidInput for another kind of file, Corrupt for a damaged one, OSError where it cannot be opened.
    """
    with path.open("rb") as file:
        head = file.read(len(_NPY_MAGIC))
    if head == _NPY_MAGIC:
        return _read_npy(path)
    return parse_idx(unpacked(path.read_bytes(), str(path)), str(path))


def _read_npy(path: Path) -> NDArray[Any]:
    try:
        # No pickles: loading one runs whatever code its author chose.
        array: NDArray[Any] = np.load(path, allow_pickle=False)
    except (ValueError, TypeError, OverflowError, EOFError, MemoryError) as error:
        raise Corrupt(
            "NPY_DAMAGED",
            f"{path} is cut short or damaged, or holds Python objects ({error}): save it anew with numpy.save",
            path=path,
            error=error,
        ) from error
    return array
