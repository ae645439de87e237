"""Take a part of a dataset."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from labelloop.errors import InvalidInput
from numpy.typing import NDArray

from .dataset import Dataset
from .parts import chosen, rows_of


def limited(dataset: Dataset, limit: int, seed: int) -> Dataset:
    """Return ``limit`` samples of ``dataset``, in their order: drawn at random, or the first ones if ``seed`` is 0.

    Raises InvalidInput if it has fewer.
    """
    count = len(dataset.samples)
    if not limit or limit == count:
        return dataset
    if limit > count:
        message = f"the limit asks for {limit} samples, but {dataset.name} has {count}"
        raise InvalidInput("LIMIT_OVER_POOL", message, field="sample_limit", limit=limit, count=count)
    if not seed:
        return _taken(dataset, slice(limit))
    # RandomState, because its sequence is guaranteed never to change.
    rng = np.random.RandomState([seed % 2**32, seed >> 32])
    drawn = _taken(dataset, np.sort(rng.permutation(count)[:limit]))
    note = f"{limit:,} of {count:,} samples drawn at random with seed {seed}"
    return replace(drawn, notes=(*dataset.notes, note))


def _taken(dataset: Dataset, rows: slice | NDArray[np.int64]) -> Dataset:
    return replace(
        dataset,
        samples=chosen(dataset.samples, rows),
        labels=None if dataset.labels is None else dataset.labels[rows],
        known=None if dataset.known is None else dataset.known[rows],
        names=rows_of(dataset.names, rows),
        originals=rows_of(dataset.originals, rows),
        shown=dataset.shown and dataset.shown.taken(rows),
    )
