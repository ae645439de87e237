"""Define which samples of a pool are equal. No I/O."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Duplicates:
    """The samples of a pool that equal an earlier one.

    Attributes:
        ids: Their ids ``[M]``, uint32, ascending.
        first: For each the first sample that it equals ``[M]``, uint32; it is no duplicate itself.
    """

    ids: NDArray[np.uint32]
    first: NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def of(cls, first_equal: NDArray[np.int32]) -> Duplicates:
        """Return the duplicates of a pool from the first sample ``[N]`` that equals each, perhaps itself."""
        ids = np.flatnonzero(first_equal != np.arange(len(first_equal)))
        return cls(ids.astype(np.uint32), first_equal[ids].astype(np.uint32))

    def first_of(self, sample_ids: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """Return the first sample that equals each of ``sample_ids`` ``[n]``: itself where no earlier one does."""
        if not len(self):
            return sample_ids
        places = np.minimum(np.searchsorted(self.ids, sample_ids), len(self) - 1)
        return np.where(self.ids[places] == sample_ids, self.first[places], sample_ids)

    def are_sound(self, sample_count: int) -> bool:
        """Return whether these may be the duplicates of a pool of that size."""
        ids, first = self.ids, self.first
        if ids.dtype != np.uint32 or first.dtype != np.uint32 or ids.ndim != 1 or ids.shape != first.shape:
            return False
        if len(ids) and (int(ids[-1]) >= sample_count or not np.all(ids[:-1] < ids[1:])):
            return False
        return bool(np.all(first < ids)) and not np.isin(first, ids).any()


NO_DUPLICATES = Duplicates(np.empty(0, np.uint32), np.empty(0, np.uint32))
