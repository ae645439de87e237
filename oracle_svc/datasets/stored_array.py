"""Represent the samples in array files, which are read part by part."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from labelloop.errors import InvalidInput
from numpy.typing import NDArray

from .array_file import ArrayFile
from .arrays import as_values, values_dtype

_PART_BYTES = 16 * 1024 * 1024  # read at once


class StoredArray:
    """The samples of files, one after the other: ``[N, *shape]``, uint8 or float32.

    Indexing by a slice or by an array of rows reads these rows into memory, and checks each value. It raises
    InvalidInput for a value out of range, and ``DATASET_CHANGED`` if a file is no longer the one that was opened.

    Args:
        files: At least one, each with at least one sample.
        field: The setting that names them, for errors.
    """

    def __init__(self, files: Sequence[ArrayFile], field: str) -> None:
        self._files, self._field = tuple(files), field
        self.dtype = self._dtype()
        self._ends = np.cumsum([file.shape[0] for file in files]).tolist()
        self.shape: tuple[int, ...] = (self._ends[-1], *files[0].shape[1:])
        self.nbytes: int = math.prod(self.shape) * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        if isinstance(rows, slice) and rows.step in (None, 1):
            start, stop, _ = rows.indices(len(self))
            return self._read([(start, max(start, stop))])
        wanted = np.arange(*rows.indices(len(self))) if isinstance(rows, slice) else np.asarray(rows)
        return self._read(_runs(wanted))

    def min(self) -> Any:
        """Return the smallest value; the first call of this or :meth:`max` reads all samples."""
        return self._extremes[0]

    def max(self) -> Any:
        return self._extremes[1]

    @cached_property
    def _extremes(self) -> tuple[Any, Any]:
        found = [(part.min(), part.max()) for part in self._parts([(0, len(self))])]
        return min(low for low, _ in found), max(high for _, high in found)

    def _read(self, runs: Sequence[tuple[int, int]]) -> NDArray[Any]:
        values = np.empty((sum(stop - start for start, stop in runs), *self.shape[1:]), self.dtype)
        filled = 0
        for part in self._parts(runs):
            values[filled : filled + len(part)] = part
            filled += len(part)
        return values

    def _parts(self, runs: Sequence[tuple[int, int]]) -> Iterator[NDArray[Any]]:
        """Yield the rows of each run ``(start, stop)``, in parts of at most 16 MiB unless a sample takes more."""
        for file, inner in self._by_file(runs):
            row_bytes = max(1, file.dtype.itemsize * math.prod(file.shape[1:]))
            at_once = max(1, _PART_BYTES // row_bytes)
            with file.opened() as descriptor:
                for start, stop in inner:
                    for row in range(start, stop, at_once):
                        raw = file.rows(descriptor, row, min(row + at_once, stop))
                        yield as_values(raw, str(file.path), self._field, first_row=row)

    def _by_file(self, runs: Sequence[tuple[int, int]]) -> Iterator[tuple[ArrayFile, list[tuple[int, int]]]]:
        """Yield the runs as rows of files; consecutive ones of a file together, so that it is opened once."""
        held: list[tuple[int, int]] = []
        place = 0
        for start, stop in runs:
            while start < stop:
                of_start = int(np.searchsorted(self._ends, start, side="right"))
                if of_start != place and held:
                    yield self._files[place], held
                    held = []
                place = of_start
                first = self._ends[place] - self._files[place].shape[0]
                end = min(stop, self._ends[place])
                held.append((start - first, end - first))
                start = end
        if held:
            yield self._files[place], held

    def _dtype(self) -> np.dtype[Any]:
        first = self._files[0]
        dtype = values_dtype(first.shape, first.dtype, str(first.path), self._field)
        for file in self._files[1:]:
            found = values_dtype(file.shape, file.dtype, str(file.path), self._field)
            if (file.shape[1:], found) != (first.shape[1:], dtype):
                raise InvalidInput(
                    "SHARDS_DIFFER",
                    f"{file.path} holds samples of {_kind(file.shape, found)}, but {first.path} of "
                    f"{_kind(first.shape, dtype)}: all files of a folder must hold samples of one kind",
                    field=self._field,
                    path=file.path,
                )
        return dtype


def _kind(shape: tuple[int, ...], dtype: np.dtype[Any]) -> str:
    return f"{'x'.join(map(str, shape[1:]))} {dtype}"


def _runs(rows: NDArray[Any]) -> list[tuple[int, int]]:
    """Return consecutive rows ``[n]`` as pairs of the first and the one behind the last."""
    if not len(rows):
        return []
    breaks = np.flatnonzero(np.diff(rows) != 1) + 1
    starts, stops = np.r_[0, breaks], np.r_[breaks, len(rows)] - 1
    return list(zip(rows[starts].tolist(), (rows[stops] + 1).tolist(), strict=True))
