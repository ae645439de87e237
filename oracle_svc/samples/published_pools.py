"""Read pools as they were published: what a run was trained on is what people see, whatever became of the files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from labelloop.artifacts.artifact_cache import ArtifactCache
from labelloop.artifacts.formats import (
    PoolManifest,
    SampleIndex,
    Shard,
    decode_duplicates,
    decode_layout,
    decode_shard,
    sample_digest,
)
from labelloop.artifacts.store import ArtifactStore
from labelloop.domain.duplicates import NO_DUPLICATES, Duplicates
from labelloop.errors import NotFound
from labelloop.events.v1.events_pb2 import PoolPublished, SampleLayout
from labelloop.runtime.async_cache import AsyncCache
from numpy.typing import NDArray

from oracle_svc.datasets.matching import NAMES_COMPARED, unknown_name
from oracle_svc.samples.name_index import NameIndex

_POOLS_KEPT = 32
_SHARDS_KEPT = 8
_NAME_INDEXES_KEPT = 2  # of 20 bytes a named sample: 200 MB for ten million


@dataclass(frozen=True)
class PublishedSample:
    """A sample of a published pool.

    Attributes:
        value: Its values, ``[*shape]``, or its text.
        layout: What a sample of the pool is; None in pools of earlier releases.
        name: Its name; empty if it has none.
        original: The file that people see of it; None if they see the values.
    """

    value: Any
    layout: SampleLayout | None
    name: str
    original: bytes | None


class PublishedPools:
    """Reads pools from the artifact store, shard by shard, through a cache on the disk."""

    def __init__(self, artifacts: ArtifactStore, cache: ArtifactCache) -> None:
        self._artifacts, self._cache = artifacts, cache
        self._manifests: AsyncCache[str, PoolManifest] = AsyncCache(self._read_manifest, kept=_POOLS_KEPT)
        self._layouts: AsyncCache[PoolManifest, SampleLayout | None] = AsyncCache(self._read_layout, kept=_POOLS_KEPT)
        self._duplicates: AsyncCache[tuple[str, int], Duplicates] = AsyncCache(self._read_duplicates, kept=_POOLS_KEPT)
        self._shards: AsyncCache[tuple[str, Shard], NDArray[Any]] = AsyncCache(self._read_shard, kept=_SHARDS_KEPT)
        self._indexes: AsyncCache[Shard, SampleIndex] = AsyncCache(self._read_index, kept=_SHARDS_KEPT)
        self._name_indexes: AsyncCache[str, NameIndex] = AsyncCache(self._index_names, kept=_NAME_INDEXES_KEPT)

    async def manifest(self, pool_sha256: str) -> PoolManifest:
        """Return a pool's manifest. Raises NotFound or Corrupt if there is none."""
        return await self._manifests.get(pool_sha256)

    async def sample(self, pool_sha256: str, sample_id: int) -> PublishedSample:
        """Return a sample. Raises NotFound if the pool has none of that id, or an artifact is missing."""
        manifest = await self.manifest(pool_sha256)
        shard, row = _place(manifest, sample_id)
        index = await self._indexes.get(shard)
        values = await self._shards.get((pool_sha256, shard))
        return PublishedSample(
            value=values[row],
            layout=await self._layouts.get(manifest),
            name=index.names[row] if index.names else "",
            original=await self._artifacts.get(index.originals[row]) if index.originals else None,
        )

    async def names(self, pool_sha256: str, sample_ids: Sequence[int]) -> list[str]:
        """Return the names of samples, empty for those that have none. Raises NotFound for an id outside the pool.

        The index of each shard is read once at most.
        """
        manifest = await self.manifest(pool_sha256)
        names = [""] * len(sample_ids)
        for shard, at, rows in _by_shard(manifest, sample_ids):
            if known := (await self._indexes.get(shard)).names:
                for place, row in zip(at, rows, strict=True):
                    names[place] = known[row]
        return names

    async def all_names(self, pool_sha256: str) -> AsyncIterator[tuple[int, Sequence[str]]]:
        """Yield the first id of each shard with the names of its samples, all of them empty if they have none."""
        first = 0
        for shard in (await self.manifest(pool_sha256)).shards:
            index = await self._indexes.get(shard)
            yield first, index.names or ("",) * shard.sample_count
            first += shard.sample_count

    async def find(self, pool_sha256: str, names: Sequence[str]) -> list[int]:
        """Return the ids of samples by their names, as :func:`oracle_svc.datasets.matching.ids_of` finds them.

        Raises NotFound for the first unknown one, with a near match.
        """
        found = await asyncio.to_thread((await self._name_indexes.get(pool_sha256)).find, names)
        if None not in found:
            return [sample_id for sample_id in found if sample_id is not None]
        compared = range(min(NAMES_COMPARED, (await self.manifest(pool_sha256)).sample_count))
        known = await self.names(pool_sha256, compared)
        unknown = names[found.index(None)]
        raise unknown_name(unknown, [name or str(sample_id) for sample_id, name in enumerate(known)])

    async def duplicates(self, pool: PoolPublished) -> Duplicates:
        """Return the samples of a pool that equal an earlier one. Raises NotFound or Corrupt without their artifact."""
        if not pool.duplicates_sha256:
            return NO_DUPLICATES
        return await self._duplicates.get((pool.duplicates_sha256, pool.sample_count))

    async def digests(self, pool_sha256: str, sample_ids: Iterable[int]) -> list[bytes]:
        """Return the digest of each sample, in the order given; see :func:`sample_digest`."""
        manifest = await self.manifest(pool_sha256)
        digests = []
        for sample_id in sample_ids:
            shard, row = _place(manifest, sample_id)
            files = (await self._indexes.get(shard)).files
            values = await self._shards.get((pool_sha256, shard))
            digests.append(sample_digest(values[row], files[row] if files else ""))
        return digests

    async def _read_manifest(self, digest: str) -> PoolManifest:
        return await asyncio.to_thread(PoolManifest.from_bytes, await self._artifacts.get(digest))

    async def _read_layout(self, manifest: PoolManifest) -> SampleLayout | None:
        if manifest.layout is None:
            return None
        return await asyncio.to_thread(decode_layout, await self._artifacts.get(manifest.layout), manifest.shape)

    async def _read_duplicates(self, key: tuple[str, int]) -> Duplicates:
        digest, sample_count = key
        return await asyncio.to_thread(decode_duplicates, await self._artifacts.get(digest), sample_count)

    async def _read_shard(self, key: tuple[str, Shard]) -> NDArray[Any]:
        pool_sha256, shard = key
        manifest, data = await self.manifest(pool_sha256), await self._cache.map(shard.sha256)
        return await asyncio.to_thread(decode_shard, data, manifest, shard)

    async def _index_names(self, pool_sha256: str) -> NameIndex:
        index = NameIndex()
        for shard in (await self.manifest(pool_sha256)).shards:
            names = (await self._indexes.get(shard)).names
            await asyncio.to_thread(index.add, names, shard.sample_count)
        return await asyncio.to_thread(index.finish)

    async def _read_index(self, shard: Shard) -> SampleIndex:
        if shard.index is None:
            return SampleIndex()
        data = await self._artifacts.get(shard.index)
        return await asyncio.to_thread(SampleIndex.from_bytes, data, shard.sample_count)


def _by_shard(manifest: PoolManifest, sample_ids: Sequence[int]) -> Iterator[tuple[Shard, list[int], list[int]]]:
    """Yield each shard that holds any of the samples, with the places of those in ``sample_ids`` and their rows."""
    ids = np.asarray(sample_ids, np.int64)
    ends = np.cumsum([shard.sample_count for shard in manifest.shards])
    if len(outside := ids[ids >= ends[-1]]):
        raise _no_sample(manifest, int(outside[0]))
    held_in = np.searchsorted(ends, ids, side="right")
    for index in np.unique(held_in).tolist():
        at, shard = np.flatnonzero(held_in == index), manifest.shards[index]
        yield shard, at.tolist(), (ids[at] - (ends[index] - shard.sample_count)).tolist()


def _place(manifest: PoolManifest, sample_id: int) -> tuple[Shard, int]:
    """Return the shard that holds a sample, and the sample's row in it."""
    row = sample_id
    for shard in manifest.shards:
        if row < shard.sample_count:
            return shard, row
        row -= shard.sample_count
    raise _no_sample(manifest, sample_id)


def _no_sample(manifest: PoolManifest, sample_id: int) -> NotFound:
    message = f"the pool has {manifest.sample_count} samples, and none {sample_id}"
    return NotFound("UNKNOWN_SAMPLE", message, sample_id=sample_id)
