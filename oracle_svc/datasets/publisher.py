"""Publish a dataset as artifacts: pool shards, pool manifest, evaluation set and feature graph."""

from __future__ import annotations

from labelloop.artifacts.formats import PoolManifest, Shard, dtype_name, encode_evaluation, sample_shape
from labelloop.artifacts.store import ArtifactStore
from labelloop.events.v1.events_pb2 import PoolPublished

from oracle_svc.datasets import Dataset
from oracle_svc.datasets.shards import shards_of


async def publish(dataset: Dataset, artifacts: ArtifactStore) -> PoolPublished:
    """Store the dataset in ``artifacts`` and return the event that names the artifacts by digest."""
    shards = [Shard(sha256=await artifacts.put(data), sample_count=count) for data, count in shards_of(dataset.samples)]
    shape = sample_shape(dataset.samples)
    dtype = dtype_name(dataset.samples)
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
