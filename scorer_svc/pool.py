"""Pools in memory, as they came."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from labelloop.wire.artifacts import ArtifactStore
from labelloop.wire.errors import Corrupt, InvalidInput
from labelloop.wire.loading import Loaded
from labelloop.wire.pools import PoolManifest, Shard
from numpy.typing import NDArray

_KEPT = 4


@dataclass(frozen=True)
class Pool:
    """Samples ``[N, *shape]``; a sample's id is its row."""

    manifest: PoolManifest
    samples: NDArray[Any]

    def take(self, sample_ids: NDArray[np.uint32]) -> NDArray[Any]:
        """Samples in the order of ``sample_ids``. InvalidInput for an id outside the pool."""
        outside = sample_ids[sample_ids >= len(self.samples)]
        if len(outside):
            message = f"sample {outside[0]} lies outside the pool, whose ids end at {len(self.samples) - 1}"
            raise InvalidInput("UNKNOWN_SAMPLE", message, field="sample_ids", sample_id=outside[0])
        return self.samples[sample_ids]


def pools(artifacts: ArtifactStore) -> Loaded[str, Pool]:
    """Pools by digest; NotFound or Corrupt where there is none."""

    async def load(digest: str) -> Pool:
        manifest = PoolManifest.from_bytes(await artifacts.get(digest))
        shards = [_shard(manifest, shard, await artifacts.get(shard.sha256)) for shard in manifest.shards]
        return Pool(manifest, np.concatenate(shards) if len(shards) > 1 else shards[0])

    return Loaded(load, kept=_KEPT)


def _shard(manifest: PoolManifest, shard: Shard, data: bytes) -> NDArray[Any]:
    shape = (shard.sample_count, *manifest.shape)
    dtype = np.dtype(manifest.dtype).newbyteorder("<")
    if len(data) != dtype.itemsize * int(np.prod(shape)):
        message = f"shard {shard.sha256} is not {shard.sample_count} samples of shape {manifest.shape}"
        raise Corrupt("BAD_SHARD", message, artifact=shard.sha256)
    return np.frombuffer(data, dtype).reshape(shape)
