"""Datasets in memory, and their pools in the artifact store."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import numpy as np
from labelloop.events.v1.events_pb2 import DatasetSource as SourceMessage
from labelloop.events.v1.events_pb2 import PoolPublished
from labelloop.wire.artifacts import ArtifactStore
from labelloop.wire.errors import InvalidInput, LabelloopError
from labelloop.wire.loading import Loaded
from labelloop.wire.pools import SHARD_SAMPLES, PoolManifest, Shard, encode_evaluation

from oracle_svc.datasets import Dataset, DatasetSource, load

_KEPT = 4


class Shelf:
    """The datasets used last."""

    def __init__(self, data_dir: Path | None, cache_dir: Path, pools_dir: Path | None = None) -> None:
        self._data_dir, self._cache_dir, self._pools_dir = data_dir, cache_dir, pools_dir
        self._datasets: Loaded[bytes, Dataset] = Loaded(self._load, kept=_KEPT)

    async def get(self, source: SourceMessage) -> Dataset:
        """The dataset, cut to the source's limit. An error of ours where it cannot be read."""
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
            error.field = f"dataset.{error.field}" if error.field else ""  # as requests name it
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


async def publish(dataset: Dataset, artifacts: ArtifactStore) -> PoolPublished:
    """Put the pool's shards, its manifest, the evaluation set and the graph of features into the artifact store."""
    shards = []
    for start in range(0, len(dataset.samples), SHARD_SAMPLES):
        part = dataset.samples[start : start + SHARD_SAMPLES]
        data = np.ascontiguousarray(part.astype(part.dtype.newbyteorder("<"), copy=False)).tobytes()
        shards.append(Shard(sha256=await artifacts.put(data), sample_count=len(part)))
    shape = tuple(dataset.samples.shape[1:])
    dtype = dataset.samples.dtype.name
    manifest = PoolManifest.model_validate({"dtype": dtype, "shape": shape, "shards": tuple(shards)})
    evaluation = ""
    if dataset.evaluation_samples is not None and dataset.evaluation_labels is not None:
        evaluation = await artifacts.put(encode_evaluation(dataset.evaluation_samples, dataset.evaluation_labels))
    return PoolPublished(
        pool_sha256=await artifacts.put(manifest.to_bytes()),
        sample_count=len(dataset.samples),
        shape=shape,
        dtype=dtype,
        classes=dataset.classes,
        evaluation_sha256=evaluation,
        description=dataset.description,
        stand_in=dataset.stand_in,
        graph_sha256=await artifacts.put(dataset.graph) if dataset.graph else "",
    )
