"""Publish a dataset as artifacts: pool shards, pool manifest, evaluation set and feature graph."""

from __future__ import annotations

import numpy as np
from labelloop.artifacts.formats import SHARD_SAMPLES, PoolManifest, Shard, encode_evaluation
from labelloop.artifacts.store import ArtifactStore
from labelloop.events.v1.events_pb2 import PoolPublished

from oracle_svc.datasets import Dataset


async def publish(dataset: Dataset, artifacts: ArtifactStore) -> PoolPublished:
    """Store the dataset in ``artifacts`` and return the event that names the artifacts by digest."""
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
