"""Reserve space for files and map them into memory, on Linux and, where it lacks a system call, on macOS too."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
_ZEROS = bytes(1024 * 1024)


def reserve(path: Path, size: int) -> None:
    """Create a file of ``size`` bytes whose space is allocated.

    On a full disk this raises OSError, whereas a later write to the mapped file would end the process.
    """
    with path.open("wb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
            return
        for start in range(0, size, len(_ZEROS)):
            file.write(_ZEROS[: size - start])


def map_file(path: Path) -> Bytes:
    """Map a file, populated at once if the system can, so that a first pass over it takes no page faults."""
    flags = mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)
    with path.open("rb") as file:
        return np.frombuffer(mmap.mmap(file.fileno(), 0, flags, mmap.PROT_READ), np.uint8)
