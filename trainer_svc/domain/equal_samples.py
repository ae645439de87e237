"""Decide which samples of a pool stand for those that equal them. Pure functions."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from labelloop.domain.duplicates import Duplicates
from numpy.typing import NDArray
from pyroaring import BitMap


def spare(duplicates: Duplicates, taken: Collection[int] | BitMap) -> NDArray[np.uint32]:
    """Return the samples that are never chosen because an equal one stands for them.

    Of equal samples the first stands for all, or the first in ``taken``: where a gold sample, or one with a label from
    before the run, is a duplicate, the samples that equal it are not asked for either.
    """
    if not len(duplicates):
        return duplicates.ids
    chosen = _sorted(taken)
    chosen = chosen[np.isin(chosen, duplicates.ids)]
    first, places = np.unique(duplicates.first_of(chosen), return_index=True)
    replaced = np.array([each not in taken for each in first.tolist()], bool)
    stand_in = chosen[places[replaced]]
    return np.concatenate([duplicates.ids[~np.isin(duplicates.ids, stand_in)], first[replaced]])


def free_count(duplicates: Duplicates, sample_count: int, taken: Collection[int] | BitMap) -> int:
    """Return how many samples of a pool can be chosen: of equal ones one, unless one of them is ``taken``."""
    if not len(duplicates):
        return sample_count - len(taken)
    return sample_count - len(duplicates) - len(np.unique(duplicates.first_of(_sorted(taken))))


def _sorted(sample_ids: Collection[int] | BitMap) -> NDArray[np.uint32]:
    if isinstance(sample_ids, BitMap):
        return np.asarray(sample_ids.to_array(), np.uint32)
    return np.sort(np.fromiter(sample_ids, np.uint32, len(sample_ids)))
