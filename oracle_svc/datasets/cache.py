"""Keep recently used datasets in memory."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import numpy as np
from labelloop.errors import InvalidInput, LabelloopError
from labelloop.events.v1.events_pb2 import DatasetSource as SourceMessage
from labelloop.runtime.async_cache import AsyncCache
from numpy.typing import NDArray

from oracle_svc.datasets import Dataset, DatasetSource, load

_KEPT = 4


class DatasetCache:
    """Loads datasets on demand and keeps the most recently used ones."""

    def __init__(self, data_dir: Path | None, cache_dir: Path, pools_dir: Path | None = None) -> None:
        self._data_dir, self._cache_dir, self._pools_dir = data_dir, cache_dir, pools_dir
        self._datasets: AsyncCache[bytes, Dataset] = AsyncCache(self._load, kept=_KEPT)

    async def get(self, source: SourceMessage) -> Dataset:
        """Return the dataset, truncated to the source's sample limit. Raises a LabelloopError if it cannot be read."""
        return await self._datasets.get(source.SerializeToString(deterministic=True))

    async def _load(self, key: bytes) -> Dataset:
        return await asyncio.to_thread(self._read, SourceMessage.FromString(key))

    def _read(self, source: SourceMessage) -> Dataset:
        try:
            folders = {"data_dir": self._data_dir, "pools_dir": self._pools_dir}
            whole = load(_named(source), cache_dir=self._cache_dir, **folders)
            return limited(whole, source.sample_limit, source.limit_seed)
        except LabelloopError as error:
            error.field = f"dataset.{error.field}" if error.field else ""  # the field's name in requests
            raise


def _named(source: SourceMessage) -> DatasetSource:
    return DatasetSource(
        name=source.name,
        labels=source.labels,
        evaluation=source.evaluation,
        evaluation_labels=source.evaluation_labels,
        classes=tuple(source.classes),
        graph=source.graph,
        size=source.size,
        fit=source.fit,
        background=source.background,
        skip_bad=source.skip_bad,
        id_column=source.id_column,
        label_column=source.label_column,
        text_column=source.text_column,
        columns=tuple(source.columns),
        embeddings=source.embeddings,
    )


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
    indices = range(len(dataset.samples))[rows] if isinstance(rows, slice) else rows.tolist()
    return replace(
        dataset,
        samples=dataset.samples[rows],
        labels=None if dataset.labels is None else dataset.labels[rows],
        names=[dataset.names[index] for index in indices] if dataset.names else (),
        originals=[dataset.originals[index] for index in indices] if dataset.originals else (),
    )
