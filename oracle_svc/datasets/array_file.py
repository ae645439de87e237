"""Read rows of the array in a .npy or IDX file, without the rest of it.

Files are read, never mapped: one that its owner cuts short while it is mapped would end the process.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from labelloop.artifacts.idx import HEADER_BYTES_MAX, check_magic, damaged, idx_header
from labelloop.errors import Corrupt, InvalidInput
from numpy.typing import NDArray

from .file_access import descriptor_of, open_file

NPY_MAGIC = b"\x93NUMPY"
_DIMENSIONS_MAX = 32


class FileVersion(NamedTuple):
    """What the file system records of a file: another file, or one written to since, has another version."""

    device: int
    inode: int
    size: int
    changed_ns: int

    @classmethod
    def of(cls, descriptor: int) -> FileVersion:
        found = os.fstat(descriptor)
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


@dataclass(frozen=True)
class ArrayFile:
    """An array ``[n, *shape]`` in a file.

    Attributes:
        dtype: Of the values as they are stored, in any byte order.
        offset: Where the values begin, in bytes.
        is_fortran: Whether the first index varies fastest.
        version: The file as it was when its header was read.
    """

    path: Path
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int
    is_fortran: bool
    version: FileVersion

    @classmethod
    def at(cls, path: Path) -> ArrayFile:
        """Read the header of the file.

        Raises InvalidInput for another kind of file, Corrupt for a damaged one, OSError if it cannot be opened.
        """
        with open_file(path) as file:
            version = FileVersion.of(file.fileno())
            if not version.size:  # not read: under /proc it may be endless or block
                check_magic(b"", str(path))
            is_npy = file.read(len(NPY_MAGIC)) == NPY_MAGIC
            file.seek(0)
            dtype, shape, offset, is_fortran = (_npy_header if is_npy else _idx_header)(file, path)
        found = cls(path, dtype, shape, offset, is_fortran, version)
        length = offset + math.prod(shape) * dtype.itemsize
        if is_npy and version.size < length:
            raise _npy_damaged(path, f"it has {version.size:,} bytes, and {length:,} by its header")
        if not is_npy and version.size != length:
            raise damaged(str(path), length, version.size)
        return found

    @contextmanager
    def opened(self) -> Iterator[int]:
        """Open the file and yield its descriptor. Raises InvalidInput if it has changed or is unreadable."""
        try:
            descriptor = descriptor_of(self.path)
        except FileNotFoundError as error:
            raise self._changed("it is gone") from error
        except OSError as error:
            raise self._unreadable(error) from error
        try:
            if FileVersion.of(descriptor) != self.version:
                raise self._changed("its content is another")
            yield descriptor
        finally:
            os.close(descriptor)

    def rows(self, descriptor: int, start: int, stop: int) -> NDArray[Any]:
        """Read the rows ``[stop - start, *shape]``, as they are stored. Raises InvalidInput as :meth:`opened` does."""
        values = np.empty(((stop - start), *self.shape[1:]), self.dtype, order="F" if self.is_fortran else "C")
        data, itemsize = values.reshape(-1, order="A").view(np.uint8), self.dtype.itemsize
        row_bytes = itemsize * math.prod(self.shape[1:])
        if not self.is_fortran:
            self._fill(data, descriptor, self.offset + start * row_bytes)
            return values
        run = (stop - start) * itemsize
        for place in range(math.prod(self.shape[1:])):  # the values of one place in a sample are side by side
            at = self.offset + (place * self.shape[0] + start) * itemsize
            self._fill(data[place * run : (place + 1) * run], descriptor, at)
        return values

    def _fill(self, data: NDArray[np.uint8], descriptor: int, offset: int) -> None:
        filled = 0
        while filled < len(data):
            try:
                count = os.preadv(descriptor, [data[filled:].data], offset + filled)
            except OSError as error:
                raise self._unreadable(error) from error
            if not count:
                raise self._changed("it has been cut short")
            filled += count

    def _changed(self, why: str) -> InvalidInput:
        message = f"{self.path} has changed since the pool was read ({why}): start a new run"
        return InvalidInput("DATASET_CHANGED", message, field="dataset.name", path=self.path)

    def _unreadable(self, error: OSError) -> InvalidInput:
        message = f"{self.path} cannot be read: {error}; mend that, then start a new run"
        return InvalidInput("UNREADABLE", message, field="dataset.name", path=self.path)


class _Header(NamedTuple):
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int
    is_fortran: bool


def _npy_header(file: BinaryIO, path: Path) -> _Header:
    try:
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, is_fortran, dtype = read(file)
    except OSError:
        raise
    except Exception as error:  # numpy's parser raises almost any exception for a broken header
        raise _npy_damaged(path, error) from error
    if dtype.hasobject:
        raise _npy_damaged(path, "Python objects are not read")
    if any(size < 0 for size in shape) or len(shape) > _DIMENSIONS_MAX:
        raise _npy_damaged(path, f"its shape is {shape}")
    return _Header(dtype, shape, file.tell(), is_fortran)


def _npy_damaged(path: Path, why: object) -> Corrupt:
    message = f"{path} is cut short or damaged, or holds Python objects ({why}): save it again with numpy.save"
    return Corrupt("NPY_DAMAGED", message, path=path, error=why)


def _idx_header(file: BinaryIO, path: Path) -> _Header:
    return _Header(*idx_header(file.read(HEADER_BYTES_MAX), str(path)), is_fortran=False)
