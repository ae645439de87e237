"""Load pools into memory, shard by shard."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import numpy as np
import structlog
from labelloop.artifacts.artifact_cache import ArtifactCache
from labelloop.artifacts.formats import PoolManifest, decode_layout, decode_shard
from labelloop.artifacts.store import ArtifactStore
from labelloop.domain.limits import TEXT_DTYPE
from labelloop.domain.sample_layout import layout_of_shape
from labelloop.errors import InvalidInput
from labelloop.events.v1.events_pb2 import SampleLayout
from labelloop.runtime.async_cache import AsyncCache
from labelloop.runtime.threads import in_thread
from numpy.typing import NDArray

from scorer_svc.pools.part import Part
from scorer_svc.pools.window import MappedFile, MappedWindow
from scorer_svc.strategies.uncertainty import Ids

_KEPT = 4
_TEXT_SHARDS_KEPT = 2  # texts are decoded into memory, where other samples are mapped from the disk

log = structlog.get_logger()


class Pool(ABC):
    """Samples identified by their row. Shards are loaded when requested: a replica may serve only some.

    Without a ``layout``, shape and dtype say what samples are.
    """

    def __init__(self, manifest: PoolManifest, layout: SampleLayout | None = None) -> None:
        self.manifest, self.layout = manifest, layout or layout_of_shape(manifest.shape, manifest.dtype)
        self._ends = np.cumsum([shard.sample_count for shard in manifest.shards])
        self._read_lately: set[int] = set()

    @property
    def read_lately(self) -> frozenset[int]:
        """The shards that the newest pass over shards one by one has read so far."""
        return frozenset(self._read_lately)

    def note_read(self, place: int | None) -> None:
        """Note that a pass has read a shard; None where a pass begins."""
        self._read_lately = self._read_lately | {place} if place is not None else set()

    @abstractmethod
    async def _load(self, index: int) -> Part:
        """Return the shard of that index."""

    def _distance(self, index: int) -> int:
        """Return how far away a shard is: 0 in memory, 1 on the disk, 2 elsewhere."""
        return 0

    def _fit(self, places: Sequence[int]) -> bool:
        """Return whether these shards may be in memory together."""
        return True

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

    def fits(self, indices: Sequence[int] = ()) -> bool:
        """Return whether these shards, or all if none is named, may be in memory together."""
        return self._fit(self._places(indices))

    async def parts(self, indices: Sequence[int] = ()) -> list[Part]:
        """Return these shards in ascending order, or all if none is named. InvalidInput for one that the pool lacks.

        All of them are in memory at once; :meth:`groups` is for pools of any size.
        """
        return [await self._load(index) for index in self._places(indices)]

    async def groups(self, indices: Sequence[int] = ()) -> AsyncGenerator[list[Part], None]:
        """Yield the shards that :meth:`parts` returns, each once: together if they fit into memory, else one by one.

        One by one they come in any order, the nearest first, and the next one is read meanwhile.
        """
        places = self._places(indices)
        if self._fit(places):
            yield [await self._load(index) for index in places]
            return
        async with aclosing(self._one_by_one(places)) as parts:
            async for part in parts:
                yield [part]

    async def _one_by_one(self, places: Sequence[int]) -> AsyncGenerator[Part, None]:
        order = sorted(places, key=lambda index: (self._distance(index), index))
        ahead: asyncio.Future[Part] | None = None
        self.note_read(None)
        try:
            for turn, index in enumerate(order, 1):
                part = await (ahead or self._load(index))
                self.note_read(index)
                ahead = asyncio.ensure_future(self._load(order[turn])) if turn < len(order) else None
                yield part
        finally:
            if ahead:
                ahead.add_done_callback(_ignored)
                ahead.cancel()

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
        async for part, asked in self.holding(sample_ids):
            samples[asked] = part.samples[sample_ids[asked] - part.first]
        return samples

    async def holding(self, sample_ids: Ids) -> AsyncGenerator[tuple[Part, NDArray[np.intp]], None]:
        """Yield the shards that hold any of ``sample_ids``, in any order, each with the places of those in it."""
        at = np.searchsorted(self._ends, sample_ids, side="right")
        places = np.unique(at).tolist()
        async with aclosing(self._one_by_one(places)) as parts:
            async for part in parts:
                yield part, np.flatnonzero((sample_ids >= part.first) & (sample_ids < part.end))


def _ignored(load: asyncio.Future[Part]) -> None:
    """Retrieve the error of a shard that nobody needs any more."""
    if not load.cancelled():
        load.exception()


def _zeros(count: int) -> NDArray[np.uint8]:
    return np.broadcast_to(np.uint8(0), (count, 1))


def check_numbers(pool: Pool) -> None:
    """Raise InvalidInput if some values of the pool are missing, or stand for categories."""
    odd = [column.name for column in pool.layout.columns if column.categories or column.has_missing]
    if odd:
        message = f"column {odd[0]!r} has categories or missing values, which are no numbers: name features"
        raise InvalidInput("NEEDS_FEATURES", message, field="features_sha256", column=odd[0])


def told_of_size(what: str, name: str, size: int, cache_bytes: int) -> None:
    """Log a warning if ``size`` bytes of a pool do not fit into the cache on the disk."""
    if size > cache_bytes:
        log.warning(
            "pool_exceeds_cache",
            what=what,
            pool=name,
            gb=round(size / 1e9, 3),
            cache_gb=round(cache_bytes / 1e9, 3),
            action="what is missing is fetched or computed again for each ranking, which is slow",
            faster_with="a larger LABELLOOP_CACHE_GB, or more scorers, which share the pool",
        )


class StoredPool(Pool):
    """A pool of samples as they are stored; texts are ``[n]`` of str.

    ``window`` keeps shards mapped.
    """

    def __init__(
        self, manifest: PoolManifest, cache: ArtifactCache, window: MappedWindow, layout: SampleLayout | None = None
    ) -> None:
        super().__init__(manifest, layout)
        self._cache, self._window = cache, window
        self._texts = AsyncCache(self._decode, kept=_TEXT_SHARDS_KEPT)

    async def _load(self, index: int) -> Part:
        if self.holds_texts:  # which are decoded, not only viewed
            return await self._texts.get(index)
        shard = self.manifest.shards[index]
        data = await self._window.get(self._file(index))
        return Part(int(self._ends[index]) - shard.sample_count, decode_shard(data, self.manifest, shard))

    async def _decode(self, index: int) -> Part:
        shard = self.manifest.shards[index]
        data = await self._cache.map(shard.sha256)
        texts = await in_thread(None, decode_shard, data, self.manifest, shard)
        return Part(int(self._ends[index]) - shard.sample_count, texts)

    def _file(self, index: int) -> MappedFile:
        shard = self.manifest.shards[index]
        name, size = shard.sha256, shard.sample_count * self.sample_bytes
        return MappedFile(name, size, lambda: self._cache.map(name), lambda: self._cache.holds(name))

    def _distance(self, index: int) -> int:
        name = self.manifest.shards[index].sha256
        return 0 if self._window.holds(name) else 2 - self._cache.holds(name)

    def _fit(self, places: Sequence[int]) -> bool:
        return sum(self._file(index).size for index in places) <= self._window.bytes_max


async def _layout(artifacts: ArtifactStore, manifest: PoolManifest) -> SampleLayout:
    return await asyncio.to_thread(decode_layout, await artifacts.get(manifest.layout or ""), manifest.shape)


def pools(artifacts: ArtifactStore, cache: ArtifactCache, window: MappedWindow | None = None) -> AsyncCache[str, Pool]:
    """Return a cache of pools by digest; NotFound or Corrupt if there is none.

    By default, as many bytes are mapped as the cache holds.
    """
    mapped = window or MappedWindow(cache.bytes_max)

    async def load(digest: str) -> Pool:
        manifest = await asyncio.to_thread(PoolManifest.from_bytes, await artifacts.get(digest))
        layout = await _layout(artifacts, manifest) if manifest.layout else None
        pool = StoredPool(manifest, cache, mapped, layout)
        told_of_size("samples", digest, pool.sample_count * pool.sample_bytes, cache.bytes_max)
        return pool

    return AsyncCache(load, kept=_KEPT)
