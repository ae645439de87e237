"""Read samples part by part, and choose some of them without reading them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from labelloop.domain.abandonment import wanted
from labelloop.domain.sample_array import SampleArray
from numpy.typing import NDArray

from .scratch import is_small

Item = TypeVar("Item")

_PART_BYTES, _PART_SAMPLES = 16 * 1024 * 1024, 60_000


def parts_of(samples: SampleArray) -> Iterator[NDArray[Any]]:
    """Yield samples ``[N, *shape]`` in parts ``[n, *shape]`` of at most 16 MiB, unless a sample takes more, and 60,000.

    Texts, which are in memory, come all at once.
    """
    at_once = len(samples)
    if samples.dtype != object:
        at_once = max(1, min(_PART_SAMPLES, _PART_BYTES * len(samples) // max(1, samples.nbytes)))
    for start in wanted(range(0, len(samples), at_once)):
        yield samples[start : start + at_once]


def chosen(samples: SampleArray, rows: slice | NDArray[np.int64]) -> SampleArray:
    """Return some rows of samples, ascending: in memory up to 64 MiB, else still where they are."""
    count = len(range(len(samples))[rows]) if isinstance(rows, slice) else len(rows)
    is_view = isinstance(samples, np.ndarray) and isinstance(rows, slice)
    if is_view or is_small(samples.nbytes // len(samples) * count):
        return samples[rows]
    return ChosenRows(samples, rows)


def rows_of(items: Sequence[Item], rows: slice | NDArray[np.int64]) -> Sequence[Item]:
    """Return the items of rows; nothing if there are none, however many rows there are."""
    if not items:
        return ()
    if isinstance(rows, slice):
        return items[rows]
    return [items[row] for row in rows.tolist()]


class ChosenRows:
    """Rows of samples ``[N, *shape]``, in place of a copy of them."""

    def __init__(self, samples: SampleArray, rows: slice | NDArray[np.int64]) -> None:
        self._samples = samples
        self._rows = range(len(samples))[rows] if isinstance(rows, slice) else rows
        self.dtype = samples.dtype
        self.shape: tuple[int, ...] = (len(self._rows), *samples.shape[1:])
        self.nbytes: int = samples.nbytes // len(samples) * len(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        if isinstance(self._rows, range):
            found = self._rows[rows] if isinstance(rows, slice) else None
            if found is not None and found.step == 1:
                return self._samples[found.start : found.stop]
            return self._samples[np.asarray(self._rows)[rows]]
        return self._samples[self._rows[rows]]
