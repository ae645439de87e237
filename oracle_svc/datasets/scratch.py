"""Allocate large arrays in files of our own, which vanish with the array or the process."""

from __future__ import annotations

import errno
import math
import mmap
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from labelloop.artifacts.mapped_files import reserve
from labelloop.errors import LimitExceeded
from numpy.typing import NDArray

IN_MEMORY_BYTES = 64 * 1024 * 1024  # arrays of up to this size are held in memory
ARRAY_BYTES_MAX = 1024**4
_LEFT_FREE = 0.05  # of the disk, for all else that is written there


def is_small(size: int) -> bool:
    """Return whether an array of ``size`` bytes is held in memory."""
    return size <= IN_MEMORY_BYTES


def allocated(
    folder: Path, shape: tuple[int, ...], dtype: np.dtype[Any], origin: str, field: str, advice: str
) -> NDArray[Any]:
    """Return an uninitialised array: in memory up to 64 MiB, else mapped from a file in ``folder``.

    The file has no name, so that nothing is left behind, and its space is reserved, so that a full disk is an error
    here and does not end the process later.

    Args:
        folder: Where files are made; it is created if it is missing.
        shape: Shape of the array.
        dtype: Its type.
        origin: What is read into the array, for errors.
        field: The setting at fault if there is no room.
        advice: What to do then.

    Raises:
        LimitExceeded: The disk has no room for it, or it takes more than 1 TiB.
    """
    size = math.prod(shape) * dtype.itemsize
    if is_small(size):
        return np.empty(shape, dtype)
    folder.mkdir(parents=True, exist_ok=True)
    disk = shutil.disk_usage(folder)
    if size > ARRAY_BYTES_MAX or size > disk.free - _LEFT_FREE * disk.total:
        raise _no_room(size, disk.free, folder, origin, field, advice)
    with tempfile.TemporaryDirectory(dir=folder, prefix="scratch-") as made:
        path = Path(made) / "samples"
        try:
            reserve(path, size)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            raise _no_room(size, shutil.disk_usage(folder).free, folder, origin, field, advice) from error
        descriptor = os.open(path, os.O_RDWR)
    try:
        return np.frombuffer(mmap.mmap(descriptor, size), dtype).reshape(shape)
    finally:
        os.close(descriptor)


def _no_room(size: int, free: int, folder: Path, origin: str, field: str, advice: str) -> LimitExceeded:
    return LimitExceeded(
        "NO_ROOM",
        f"{origin} takes {size:,} bytes once it is read, and {free:,} are free in {folder}: {advice}, make room there, "
        "or set LABELLOOP_CACHE_DIR to a folder on a larger disk",
        field=field,
        origin=origin,
    )
