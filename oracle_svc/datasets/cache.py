"""Keep recently used datasets in memory."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from labelloop.errors import InvalidInput, LabelloopError
from labelloop.events.v1.events_pb2 import DatasetSource as SourceMessage
from labelloop.runtime.async_cache import AsyncCache

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
        named = DatasetSource(
            name=source.name,
            labels=source.labels,
            evaluation=source.evaluation,
            evaluation_labels=source.evaluation_labels,
            classes=tuple(source.classes),
            graph=source.graph,
        )
        try:
            folders = {"data_dir": self._data_dir, "pools_dir": self._pools_dir}
            return _cut(load(named, cache_dir=self._cache_dir, **folders), source.sample_limit)
        except LabelloopError as error:
            error.field = f"dataset.{error.field}" if error.field else ""  # the field's name in requests
            raise


def _cut(dataset: Dataset, limit: int) -> Dataset:
    if not limit:
        return dataset
    count = len(dataset.samples)
    if limit > count:
        message = f"the limit asks for {limit} samples, but {dataset.name} has {count}"
        raise InvalidInput("LIMIT_OVER_POOL", message, field="sample_limit", limit=limit, count=count)
    labels = None if dataset.labels is None else dataset.labels[:limit]
    return replace(dataset, samples=dataset.samples[:limit], labels=labels)
