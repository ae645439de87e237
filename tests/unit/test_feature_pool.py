"""Pools seen through a graph: what is kept on disk, and what is made anew."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labelloop.wire.errors import InvalidInput
from labelloop.wire.loading import Loaded
from labelloop.wire.pools import PoolManifest, Shard
from numpy.typing import NDArray

from scorer_svc.artifact_cache import ArtifactCache
from scorer_svc.cache_folder import CacheFolder
from scorer_svc.feature_pool import feature_pools, graphs
from scorer_svc.learning import Learning
from scorer_svc.pool import Pool, pools
from scorer_svc.ranking import Part
from scorer_svc.selection import Ids
from tests.unit.test_pool import PLENTY, SAMPLES, Store, published
from trainer_svc.onnx_export import to_onnx

WIDE = np.random.default_rng(0).normal(0, 1, (7, SAMPLES[0].size + 1)).astype(np.float32)


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as made:
        yield made


class Site:
    """A store, a cache on disk, and pools of both kinds over them, as after a start of the service."""

    def __init__(self, store: Store, folder: Path, executor: ThreadPoolExecutor, bytes_max: int = PLENTY) -> None:
        self.plain = pools(store, ArtifactCache(store, folder / "artifacts", bytes_max))
        self.graphs = graphs(store)
        cache = CacheFolder(folder / "features", bytes_max)
        self.seen = feature_pools(self.plain, self.graphs, cache, executor)
        self.learning = Learning(self.plain, self.graphs, executor)


async def whole(pool: Pool) -> NDArray[np.float32]:
    return np.concatenate([part.samples for part in await pool.parts()])


async def test_features_are_those_of_the_graph_and_are_kept(tmp_path: Path, executor: ThreadPoolExecutor) -> None:
    store = Store()
    digest, _ = await published(store, SAMPLES, 30)
    graph = await store.put(to_onnx(WIDE, "uint8"))
    site = Site(store, tmp_path, executor)
    pool = await site.seen.get((digest, graph))
    features = await whole(pool)
    expected = (await site.graphs.get(graph)).answers(SAMPLES)
    assert np.array_equal(features, expected)
    assert np.array_equal(await pool.take(np.array([99, 0, 31], np.uint32)), expected[[99, 0, 31]])
    inodes = {file.stat().st_ino for file in (tmp_path / "features").iterdir()}
    assert len(inodes) == 2

    again = Site(store, tmp_path, executor)  # what lies there is taken as it is: the graph is not run
    (await again.graphs.get(graph)).answers = None  # type: ignore[method-assign, assignment]
    assert np.array_equal(await whole(await again.seen.get((digest, graph))), expected)
    assert {file.stat().st_ino for file in (tmp_path / "features").iterdir()} == inodes


@pytest.mark.parametrize("damage", [b"", b"x", None])
async def test_what_is_cut_short_or_damaged_is_made_anew(
    tmp_path: Path, executor: ThreadPoolExecutor, damage: bytes | None
) -> None:
    store = Store()
    digest, _ = await published(store, SAMPLES)
    graph = await store.put(to_onnx(WIDE, "uint8"))
    expected = await whole(await Site(store, tmp_path, executor).seen.get((digest, graph)))
    [file] = (tmp_path / "features").iterdir()
    data = bytearray(file.read_bytes())
    data[100] ^= 1
    file.unlink()
    file.write_bytes(bytes(data) if damage is None else damage)
    found = await whole(await Site(store, tmp_path, executor).seen.get((digest, graph)))
    assert np.array_equal(found, expected)


async def test_many_who_ask_at_once_get_the_same(tmp_path: Path, executor: ThreadPoolExecutor) -> None:
    store = Store()
    digest, _ = await published(store, SAMPLES, 50)
    graph = await store.put(to_onnx(WIDE, "uint8"))
    sites = [Site(store, tmp_path, executor) for _ in range(3)]  # as several processes on one folder
    found = await asyncio.gather(*(site.seen.get((digest, graph)) for site in sites for _ in range(3)))
    arrays = await asyncio.gather(*(whole(pool) for pool in found))
    assert all(np.array_equal(array, arrays[0]) for array in arrays)
    assert not list((tmp_path / "features").glob("*.draft"))


async def test_a_graph_for_other_samples_is_refused(tmp_path: Path, executor: ThreadPoolExecutor) -> None:
    store = Store()
    digest, _ = await published(store, SAMPLES)
    for wrong in (to_onnx(WIDE, "float32"), to_onnx(WIDE[:, 1:], "uint8")):
        graph = await store.put(wrong)
        site = Site(store, tmp_path, executor)
        with pytest.raises(InvalidInput, match="the graph takes"):
            await site.seen.get((digest, graph))
        with pytest.raises(InvalidInput, match="the graph takes"):
            await site.learning.learn(digest, 0, graph)


async def test_features_that_are_no_numbers_are_refused(tmp_path: Path, executor: ThreadPoolExecutor) -> None:
    store = Store()
    digest, _ = await published(store, SAMPLES)
    graph = await store.put(to_onnx(np.full_like(WIDE, np.nan), "uint8"))
    site = Site(store, tmp_path, executor)
    with pytest.raises(InvalidInput, match="no finite numbers"):
        await site.learning.learn(digest, 0, graph)
    with pytest.raises(InvalidInput, match="no finite numbers"):
        await (await site.seen.get((digest, graph))).parts()
    assert not list((tmp_path / "features").iterdir())


async def test_posted_samples_get_the_features_of_the_pool(tmp_path: Path, executor: ThreadPoolExecutor) -> None:
    store = Store()
    digest, _ = await published(store, SAMPLES)
    graph = await store.put(to_onnx(WIDE, "uint8"))
    site = Site(store, tmp_path, executor)
    answer = await site.learning.extract(graph, SAMPLES[5:8].tobytes())
    expected = await (await site.seen.get((digest, graph))).take(np.array([5, 6, 7], np.uint32))
    np.testing.assert_allclose(np.frombuffer(answer.features, "<f4").reshape(3, -1), expected, rtol=1e-5)
    for wrong in (b"", SAMPLES[0].tobytes()[:-1]):
        with pytest.raises(InvalidInput, match="no whole number of samples"):
            await site.learning.extract(graph, wrong)


async def test_a_pool_that_holds_no_images_teaches_nothing(tmp_path: Path, executor: ThreadPoolExecutor) -> None:
    store = Store()
    digest, _ = await published(store, np.zeros((50, 9), np.uint8))
    with pytest.raises(InvalidInput, match="no features can be learned"):
        await Site(store, tmp_path, executor).learning.learn(digest, 0, "")


class Large(Pool):
    """A hundred pictures of 2,000 x 2,000 pixels, all black; notes how many are read at once."""

    def __init__(self) -> None:
        self.read: list[int] = []
        super().__init__(
            PoolManifest(dtype="uint8", shape=(2_000, 2_000), shards=(Shard(sha256="0" * 64, sample_count=100),))
        )

    async def _load(self, index: int) -> Part:
        return Part(0, np.broadcast_to(np.uint8(0), (100, 2_000, 2_000)))

    async def take(self, sample_ids: Ids) -> NDArray[Any]:
        self.read.append(len(sample_ids))
        return await super().take(sample_ids)


async def test_of_large_samples_only_as_many_are_read_as_fit_into_memory(executor: ThreadPoolExecutor) -> None:
    pool = Large()

    async def load(digest: str) -> Pool:
        return pool

    learning = Learning(Loaded(load, kept=1), graphs(Store()), executor)
    with pytest.raises(InvalidInput, match="plain surfaces"):
        await learning.learn("large", 0, "")
    assert 10 < pool.read[0] < 40
