"""Load pools into memory, shard by shard."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from labelloop.artifacts.artifact_cache import ArtifactCache
from labelloop.artifacts.formats import PoolManifest, decode_layout, decode_shard
from labelloop.artifacts.store import ArtifactStore
from labelloop.domain.limits import TEXT_DTYPE
from labelloop.domain.sample_layout import layout_of_shape
from labelloop.errors import InvalidInput
from labelloop.events.v1.events_pb2 import SampleLayout
from labelloop.runtime.async_cache import AsyncCache
from numpy.typing import NDArray

from scorer_svc.pools.part import Part
from scorer_svc.strategies.uncertainty import Ids

_KEPT = 4
_TEXT_SHARDS_KEPT = 2  # texts are decoded into memory, where other samples are mapped from the disk


class Pool(ABC):
    """Samples identified by their row. Shards are loaded when first requested: a replica may serve only some.

    Without a ``layout``, shape and dtype say what samples are.
    """

    def __init__(self, manifest: PoolManifest, layout: SampleLayout | None = None) -> None:
        self.manifest, self.layout = manifest, layout or layout_of_shape(manifest.shape, manifest.dtype)
        self._ends = np.cumsum([shard.sample_count for shard in manifest.shards])
        kept = _TEXT_SHARDS_KEPT if self.holds_texts else len(manifest.shards)
        self._shards = AsyncCache(self._load, kept=kept)

    @abstractmethod
    async def _load(self, index: int) -> Part:
        """Load the shard of that index."""

    @property
    def sample_count(self) -> int:
        return int(self._ends[-1])

    @property
    def sample_size(self) -> int:
        """Number of values in a sample."""
        return int(np.prod(self.manifest.shape))

    @property
    def holds_texts(self) -> bool:
        """Whether samples are str objects, of no fixed size."""
        return self.manifest.dtype == TEXT_DTYPE

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(object if self.holds_texts else self.manifest.dtype)

    @property
    def sample_bytes(self) -> int:
        """Size of a sample; 0 for texts."""
        return 0 if self.holds_texts else self.sample_size * self.dtype.itemsize

    def spans(self, indices: Sequence[int] = ()) -> list[Part]:
        """Return parts as :meth:`parts` does, with zeros in place of the samples, for callers that only need ids."""
        shards = self.manifest.shards
        return [
            Part(int(self._ends[index]) - shards[index].sample_count, _zeros(shards[index].sample_count))
            for index in self._places(indices)
        ]

    async def parts(self, indices: Sequence[int] = ()) -> list[Part]:
        """Return these shards in ascending order, or all if none is named. InvalidInput for one that the pool lacks."""
        return [await self._shards.get(index) for index in self._places(indices)]

    def _places(self, indices: Sequence[int]) -> list[int]:
        known = range(len(self.manifest.shards))
        for index in indices:
            if index not in known:
                message = f"shard {index} lies outside the pool, whose shards end at {known[-1]}"
                raise InvalidInput("UNKNOWN_SHARD", message, field="shards", shard=index)
        return sorted(set(indices) or known)

    async def take(self, sample_ids: Ids) -> NDArray[Any]:
        """Return samples in the order of ``sample_ids``. InvalidInput for an id outside the pool."""
        outside = sample_ids[sample_ids >= self.sample_count]
        if len(outside):
            message = f"sample {outside[0]} lies outside the pool, whose ids end at {self.sample_count - 1}"
            raise InvalidInput("UNKNOWN_SAMPLE", message, field="sample_ids", sample_id=outside[0])
        shape = () if self.holds_texts else self.manifest.shape
        samples = np.empty((len(sample_ids), *shape), self.dtype)
        at = np.searchsorted(self._ends, sample_ids, side="right")
        for index in np.unique(at):
            part, asked = await self._shards.get(int(index)), at == index
            samples[asked] = part.samples[sample_ids[asked] - part.first]
        return samples


def _zeros(count: int) -> NDArray[np.uint8]:
    return np.broadcast_to(np.uint8(0), (count, 1))


def check_numbers(pool: Pool) -> None:
    """Raise InvalidInput if some values of the pool are missing, or stand for categories."""
    odd = [column.name for column in pool.layout.columns if column.categories or column.has_missing]
    if odd:
        message = f"column {odd[0]!r} has categories or missing values, which are no numbers: name features"
        raise InvalidInput("NEEDS_FEATURES", message, field="features_sha256", column=odd[0])


class StoredPool(Pool):
    """A pool of samples as they are stored; texts are ``[n]`` of str."""

    def __init__(self, manifest: PoolManifest, cache: ArtifactCache, layout: SampleLayout | None = None) -> None:
        super().__init__(manifest, layout)
        self._cache = cache

    async def _load(self, index: int) -> Part:
        shard = self.manifest.shards[index]
        data = await self._cache.map(shard.sha256)
        first = int(self._ends[index]) - shard.sample_count
        if self.holds_texts:  # which are decoded, not only viewed
            return Part(first, await asyncio.to_thread(decode_shard, data, self.manifest, shard))
        return Part(first, decode_shard(data, self.manifest, shard))


def pools(artifacts: ArtifactStore, cache: ArtifactCache) -> AsyncCache[str, Pool]:
    """Return a cache of pools by digest; NotFound or Corrupt if there is none."""

    async def load(digest: str) -> Pool:
        manifest = PoolManifest.from_bytes(await artifacts.get(digest))
        layout = decode_layout(await artifacts.get(manifest.layout), manifest.shape) if manifest.layout else None
        return StoredPool(manifest, cache, layout)

    return AsyncCache(load, kept=_KEPT)
