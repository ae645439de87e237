"""Extract the features of pools: the graph runs once over each sample, and the results stay on the local disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy as np
from labelloop.artifacts.cache_folder import CacheFolder
from labelloop.artifacts.formats import TILE_SAMPLES, PoolManifest
from labelloop.artifacts.mapped_files import Bytes, reserve
from labelloop.artifacts.store import ArtifactStore
from labelloop.domain.abandonment import check_wanted, passed_on
from labelloop.errors import InvalidInput
from labelloop.runtime.async_cache import AsyncCache
from labelloop.runtime.threads import in_thread
from numpy.typing import NDArray

from scorer_svc.models.graph import Graph
from scorer_svc.models.limits import MULTIPLY_ADDS_MAX
from scorer_svc.pools.part import Part
from scorer_svc.pools.pool import Pool, told_of_size
from scorer_svc.pools.window import MappedFile, MappedWindow

_KEPT = 4
_AT_ONCE_SAMPLES = 4 * TILE_SAMPLES
_SUM_BYTES = 32


class FeaturePool(Pool):
    """A pool whose samples are the float32 features of another pool's samples, under the same ids.

    ``executor`` runs the graph, on as many cores as it has threads.
    """

    def __init__(
        self,
        pool: Pool,
        graph: Graph,
        digest: str,
        folder: CacheFolder,
        executor: Executor,
        window: MappedWindow | None = None,
    ) -> None:
        self._pool, self._graph, self._digest = pool, graph, digest
        self._folder, self._executor = folder, executor
        self._window = window or MappedWindow(folder.bytes_max)
        shape, shards = (graph.answer_count,), pool.manifest.shards
        super().__init__(PoolManifest(dtype="float32", shape=shape, shards=shards))

    async def _load(self, index: int) -> Part:
        count, file = self.manifest.shards[index].sample_count, self._file(index)
        found = await self._window.get(file)
        values = found[:-_SUM_BYTES].view(np.float32).reshape(count, self._graph.answer_count)
        return Part(int(self._ends[index]) - count, values)

    def _file(self, index: int) -> MappedFile:
        shard = self.manifest.shards[index]
        name, size = f"{shard.sha256[:32]}-{self._digest[:32]}", shard.sample_count * self.sample_bytes
        return MappedFile(
            name, size + _SUM_BYTES, lambda: self._made(index, name, size), lambda: self._folder.holds(name)
        )

    async def _made(self, index: int, name: str, size: int) -> Bytes:
        """Map the features of a shard. The shard itself is read only if they must be computed."""
        found = await in_thread(None, self._folder.mapped, name, _wholly(size))
        if found is not None:
            return found
        [part] = await self._pool.parts([index])
        return await in_thread(
            None,
            self._folder.made,
            name,
            size + _SUM_BYTES,
            _wholly(size),
            lambda draft: self._extract(part, draft, size),
        )

    def note_read(self, place: int | None) -> None:
        self._pool.note_read(place)

    def _distance(self, index: int) -> int:
        name = self._file(index).name
        return 0 if self._window.holds(name) else 2 - self._folder.holds(name)

    def _fit(self, places: Sequence[int]) -> bool:
        return sum(self._file(index).size for index in places) <= self._window.bytes_max

    def _extract(self, part: Part, draft: Path, size: int) -> None:
        count = len(part.samples)
        reserve(draft, size + _SUM_BYTES)
        values = np.memmap(draft, np.float32, "r+", shape=(count, self._graph.answer_count))
        spans = [slice(start, start + _AT_ONCE_SAMPLES) for start in range(0, count, _AT_ONCE_SAMPLES)]

        def fill(span: slice) -> None:
            values[span] = found = self._graph.answers(part.samples[span])
            check_finite(found)

        for _ in self._executor.map(passed_on(fill), spans):
            check_wanted()
        values.flush()
        with draft.open("r+b") as end:
            end.seek(size)
            end.write(sha256(values.data).digest())


def _wholly(size: int) -> Callable[[Bytes], bool]:
    """Return a check that a file holds ``size`` bytes followed by their SHA-256."""
    return lambda data: len(data) == size + _SUM_BYTES and sha256(data[:size].data).digest() == data[size:].tobytes()


def check_graph(graph: Graph, pool: Pool) -> None:
    """Raise InvalidInput if ``graph`` takes samples of another size or dtype than the pool's."""
    takes, has = (graph.feature_count, graph.dtype), (pool.sample_size, pool.manifest.dtype)
    if takes != has:
        message = f"the graph takes {takes[0]} values of {takes[1]} a sample, but the pool's have {has[0]} of {has[1]}"
        raise InvalidInput("GRAPH_DOES_NOT_FIT", message, field="graph_sha256")


def check_finite(values: NDArray[np.float32]) -> None:
    """Raise InvalidInput if any feature is not a finite number."""
    if not np.isfinite(values).all():
        raise InvalidInput("BAD_GRAPH", "the graph makes features that are no finite numbers", field="features_sha256")


def graphs(
    artifacts: ArtifactStore, vetting: Executor | None = None, multiply_adds_max: int = MULTIPLY_ADDS_MAX
) -> AsyncCache[str, Graph]:
    """Return a cache of feature graphs by digest; NotFound, Corrupt or InvalidInput if there is none.

    They are checked by ``vetting``, one after the other if it has one thread: each may take a second and much memory.
    """

    async def load(digest: str) -> Graph:
        data = await artifacts.get(digest)
        checked = partial(Graph, data, digest, field="features_sha256", multiply_adds_max=multiply_adds_max)
        return await asyncio.get_running_loop().run_in_executor(vetting, checked)

    return AsyncCache(load, kept=_KEPT)


def feature_pools(
    pools: AsyncCache[str, Pool],
    known: AsyncCache[str, Graph],
    folder: CacheFolder,
    executor: Executor,
    window: MappedWindow | None = None,
) -> AsyncCache[tuple[str, str], Pool]:
    """Return a cache of feature pools by the digests of the pool's manifest and of the graph.

    By default, as many bytes are mapped as the folder holds.
    """
    mapped = window or MappedWindow(folder.bytes_max)

    async def load(key: tuple[str, str]) -> Pool:
        pool, graph = await pools.get(key[0]), await known.get(key[1])
        check_graph(graph, pool)
        features = FeaturePool(pool, graph, key[1], folder, executor, mapped)
        told_of_size("features", key[0], features.sample_count * features.sample_bytes, folder.bytes_max)
        return features

    return AsyncCache(load, kept=_KEPT)
