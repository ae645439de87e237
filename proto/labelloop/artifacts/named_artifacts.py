"""Find the artifacts that events, pool manifests and indexes of samples name. No I/O."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from labelloop.artifacts.formats import PoolManifest, SampleIndex
from labelloop.events.v1.events_pb2 import Event, PoolPublished


class Named(NamedTuple):
    """An artifact that something names.

    Attributes:
        is_manifest: Whether it is the manifest of a pool, which names others.
        indexed: Number of samples if it is their index, which names others; 0 if it is none.
    """

    sha256: str
    is_manifest: bool = False
    indexed: int = 0

    @property
    def names_others(self) -> bool:
        return self.is_manifest or self.indexed > 0


def named_by_event(event: Event) -> Iterator[Named]:
    """Yield what an event names; manifests first, so that they precede what they name."""
    model, taken_over = event.model_trained, event.run_started.inheritance
    yield from _named_by_pool(event.pool_published)
    yield from _named_by_pool(event.run_archived.pool)
    others = (
        event.run_archived.archive_sha256,
        event.run_archived.model_sha256,
        event.features_learned.features_sha256,
        *(model.model_sha256, model.head_sha256, model.training_state_sha256),
        *(taken_over.model_sha256, taken_over.training_state_sha256),
        *(taken_over.head_sha256, taken_over.features_sha256),
    )
    yield from (Named(digest) for digest in others if digest)


def _named_by_pool(pool: PoolPublished) -> Iterator[Named]:
    manifests = (pool.pool_sha256, pool.shown.pool_sha256)
    others = (pool.evaluation_sha256, pool.graph_sha256, pool.labels_sha256, pool.duplicates_sha256)
    yield from (Named(digest, is_manifest=True) for digest in manifests if digest)
    yield from (Named(digest) for digest in others if digest)


def named_by_artifact(named: Named, data: bytes) -> Iterator[Named]:
    """Yield what a manifest or an index names, indexes first. Raises Corrupt if ``data`` is none."""
    if named.is_manifest:
        manifest = PoolManifest.from_bytes(data)
        yield from (Named(shard.index, indexed=shard.sample_count) for shard in manifest.shards if shard.index)
        yield from (Named(shard.sha256) for shard in manifest.shards)
        if manifest.layout:
            yield Named(manifest.layout)
    elif named.indexed:
        yield from (Named(digest) for digest in SampleIndex.from_bytes(data, named.indexed).originals)
