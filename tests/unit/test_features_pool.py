"""Pools of features: cached on disk, and computed again where the cache is damaged."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labelloop.artifacts.artifact_cache import ArtifactCache
from labelloop.artifacts.cache_folder import CacheFolder
from labelloop.artifacts.formats import PoolManifest, Shard
from labelloop.artifacts.texts import encode_texts
from labelloop.errors import Corrupt, InvalidInput, Unready
from labelloop.runtime.async_cache import AsyncCache
from labelloop.scorer.v1.scorer_pb2 import FeatureMethod
from numpy.typing import NDArray
from structlog.testing import capture_logs

from scorer_svc.features.pool import FeaturePool, feature_pools, graphs
from scorer_svc.features.service import FeatureService
from scorer_svc.models.graph import Graph
from scorer_svc.pools.part import Part
from scorer_svc.pools.pool import Pool, pools
from scorer_svc.pools.window import MappedWindow
from scorer_svc.strategies.uncertainty import Ids
from tests.unit.test_pool import PLENTY, SAMPLES, Store, published
from trainer_svc.model.onnx_export import to_onnx

WIDE = np.random.default_rng(0).normal(0, 1, (7, SAMPLES[0].size + 1)).astype(np.float32)


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as made:
        yield made


def _written(draft: Path, data: bytes) -> None:
    draft.write_bytes(data)


class Site:
    """A store, a cache on disk, and pools of samples and of features, as after a start of the service."""

    def __init__(self, store: Store, folder: Path, executor: ThreadPoolExecutor, bytes_max: int = PLENTY) -> None:
        self.plain = pools(store, ArtifactCache(store, folder / "artifacts", bytes_max))
        self.graphs = graphs(store)
        cache = CacheFolder(folder / "features", bytes_max)
        self.seen = feature_pools(self.plain, self.graphs, cache, executor)
        self.learning = FeatureService(self.plain, self.graphs, executor)


async def whole(pool: Pool) -> NDArray[np.float32]:
    return np.concatenate([part.samples for part in await pool.parts()])


async def test_features_are_those_of_the_graph_and_are_cached(tmp_path: Path, executor: ThreadPoolExecutor) -> None:
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

    again = Site(store, tmp_path, executor)  # cached features are used: the graph is not run
    (await again.graphs.get(graph)).answers = None  # type: ignore[method-assign, assignment]
    assert np.array_equal(await whole(await again.seen.get((digest, graph))), expected)
    assert {file.stat().st_ino for file in (tmp_path / "features").iterdir()} == inodes


async def test_features_larger_than_the_cache_are_made_from_one_shard_at_a_time(
    tmp_path: Path, executor: ThreadPoolExecutor
) -> None:
    store = Store()
    digest, _ = await published(store, SAMPLES, 20, 40, 60, 80)
    graph = await store.put(to_onnx(WIDE, "uint8"))
    shard_bytes, feature_bytes = SAMPLES[:20].nbytes, 20 * 7 * 4 + 32
    plain = pools(store, ArtifactCache(store, tmp_path / "artifacts", shard_bytes), MappedWindow(shard_bytes))
    known, folder = graphs(store), CacheFolder(tmp_path / "features", 2 * feature_bytes)
    seen = feature_pools(plain, known, folder, executor, MappedWindow(2 * feature_bytes))
    with capture_logs() as logs:
        pool = await seen.get((digest, graph))
    assert [entry["what"] for entry in logs if entry["event"] == "pool_exceeds_cache"] == ["samples", "features"]
    expected = (await known.get(graph)).answers(SAMPLES)
    for _ in range(2):
        found = np.zeros_like(expected)
        async for [part] in pool.groups():
            found[part.first : part.end] = part.samples
            assert sum(file.stat().st_size for file in (tmp_path / "features").iterdir()) <= 3 * feature_bytes
        assert np.array_equal(found, expected)


async def test_samples_are_not_read_where_their_features_are_cached(
    tmp_path: Path, executor: ThreadPoolExecutor
) -> None:
    store = Store()
    digest, shards = await published(store, SAMPLES, 30)
    graph = await store.put(to_onnx(WIDE, "uint8"))
    await whole(await Site(store, tmp_path, executor).seen.get((digest, graph)))
    for shard in shards:
        del store.held[shard]
        (tmp_path / "artifacts" / shard).unlink()
    assert len(await whole(await Site(store, tmp_path, executor).seen.get((digest, graph)))) == len(SAMPLES)


@pytest.mark.parametrize("damage", [b"", b"x", None])
async def test_damaged_features_are_computed_again(
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


class Noted(Graph):
    """Counts the samples that it runs over, and records what ``look`` returns meanwhile."""

    def __init__(self, data: bytes, look: Callable[[], Any]) -> None:
        super().__init__(data, "g", field="f")
        self._look = look
        self.samples, self.found = 0, list[Any]()

    def answers(self, samples: NDArray[Any]) -> NDArray[np.float32]:
        self.samples += len(samples)
        self.found.append(self._look())
        return super().answers(samples)


async def test_disk_space_is_allocated_before_the_file_is_mapped(tmp_path: Path, executor: ThreadPoolExecutor) -> None:
    """Otherwise the first write to a full disk would be a SIGBUS."""
    store = Store()
    digest, _ = await published(store, np.repeat(SAMPLES, 100, axis=0))
    plain, folder = await Site(store, tmp_path, executor).plain.get(digest), tmp_path / "features"

    def shares_taken() -> list[float]:
        return [file.stat().st_blocks * 512 / file.stat().st_size for file in folder.glob("*.draft")]

    graph = Noted(to_onnx(WIDE, "uint8"), shares_taken)
    await FeaturePool(plain, graph, "g" * 64, CacheFolder(folder, PLENTY), executor).parts()
    [[share], *_] = graph.found
    assert share >= 1


async def test_full_disk_is_reported(tmp_path: Path, executor: ThreadPoolExecutor) -> None:
    def full(draft: Path) -> None:
        draft.write_bytes(b"some")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(Unready, match="No space left") as caught:
        CacheFolder(tmp_path, PLENTY).made("name", 10, lambda data: True, full)
    assert caught.value.reason == "CACHE_FAILS"
    assert not list(tmp_path.iterdir())


async def test_processes_that_need_one_pool_compute_it_once(tmp_path: Path, executor: ThreadPoolExecutor) -> None:
    store = Store()
    digest, _ = await published(store, SAMPLES, 30, 60)
    plain = await Site(store, tmp_path, executor).plain.get(digest)
    graph = Noted(to_onnx(WIDE, "uint8"), lambda: None)
    folders = [CacheFolder(tmp_path / "features", PLENTY) for _ in range(3)]  # as in several processes
    seen = [FeaturePool(plain, graph, "g" * 64, folder, executor) for folder in folders]
    arrays = await asyncio.gather(*(whole(pool) for pool in seen))
    assert graph.samples == len(SAMPLES)
    assert all(np.array_equal(array, arrays[0]) for array in arrays)
    assert len(list((tmp_path / "features").iterdir())) == 3


def test_waiting_process_writes_the_file_if_the_writer_dies(tmp_path: Path) -> None:
    held = (
        "import os, sys; from pathlib import Path; from labelloop.artifacts.cache_folder import CacheFolder\n"
        "def write(draft):\n    print('in', flush=True); sys.stdin.read(); os._exit(1)\n"
        "CacheFolder(Path(sys.argv[1]), 10**9).made('name', 10, lambda data: True, write)"
    )
    command = [sys.executable, "-c", held, str(tmp_path)]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other,
        ThreadPoolExecutor(1) as ours,
    ):
        assert other.stdin
        assert other.stdout
        assert other.stdout.readline() == b"in\n"
        folder = CacheFolder(tmp_path, PLENTY)
        made = ours.submit(folder.made, "name", 4, lambda data: True, lambda draft: _written(draft, b"made"))
        wait([made], timeout=0.2)
        assert not made.done()
        other.stdin.close()
        assert made.result().tobytes() == b"made"


def test_recent_drafts_are_kept_and_abandoned_ones_deleted(tmp_path: Path) -> None:
    fresh, old = tmp_path / "a.1.draft", tmp_path / "b.2.draft"
    for draft in (fresh, old):
        draft.write_bytes(bytes(100))
    long_ago = time.time() - 100_000
    os.utime(old, (long_ago, long_ago))
    CacheFolder(tmp_path, 50).keep("name", 40, lambda draft: _written(draft, bytes(40)))
    assert sorted(path.name for path in tmp_path.iterdir()) == [fresh.name, "name"]


async def test_concurrent_readers_get_equal_features(tmp_path: Path, executor: ThreadPoolExecutor) -> None:
    store = Store()
    digest, _ = await published(store, SAMPLES, 50)
    graph = await store.put(to_onnx(WIDE, "uint8"))
    sites = [Site(store, tmp_path, executor) for _ in range(3)]  # as several processes on one folder
    found = await asyncio.gather(*(site.seen.get((digest, graph)) for site in sites for _ in range(3)))
    arrays = await asyncio.gather(*(whole(pool) for pool in found))
    assert all(np.array_equal(array, arrays[0]) for array in arrays)
    assert not list((tmp_path / "features").glob("*.draft"))


async def test_graph_for_other_samples_is_refused(tmp_path: Path, executor: ThreadPoolExecutor) -> None:
    store = Store()
    digest, _ = await published(store, SAMPLES)
    for wrong in (to_onnx(WIDE, "float32"), to_onnx(WIDE[:, 1:], "uint8")):
        graph = await store.put(wrong)
        site = Site(store, tmp_path, executor)
        with pytest.raises(InvalidInput, match="the graph takes"):
            await site.seen.get((digest, graph))
        with pytest.raises(InvalidInput, match="the graph takes"):
            await site.learning.learn(digest, 0, graph)


async def test_features_that_are_not_finite_are_refused(tmp_path: Path, executor: ThreadPoolExecutor) -> None:
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


async def test_learning_features_needs_a_pool_of_images(tmp_path: Path, executor: ThreadPoolExecutor) -> None:
    store = Store()
    digest, _ = await published(store, np.zeros((50, 9), np.uint8))
    with pytest.raises(InvalidInput, match="no features can be learned"):
        await Site(store, tmp_path, executor).learning.learn(digest, 0, "")


class Large(Pool):
    """A hundred black images of 2,000 x 2,000 pixels; records how many are read at once."""

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


@pytest.mark.parametrize(
    ("method", "why"),
    [(FeatureMethod.FEATURE_METHOD_PATCHES, "plain surfaces"), (FeatureMethod.FEATURE_METHOD_SCATTERING, "alike")],
)
async def test_only_as_many_large_samples_are_read_as_fit_into_memory(
    executor: ThreadPoolExecutor, method: FeatureMethod.ValueType, why: str
) -> None:
    pool = Large()

    async def load(digest: str) -> Pool:
        return pool

    learning = FeatureService(AsyncCache(load, kept=1), graphs(Store()), executor)
    with pytest.raises(InvalidInput, match=why):
        await learning.learn("large", 0, "", method)
    assert 10 < pool.read[0] < 40


TEXTS = np.array([f"text {word} {word}s about {word}" for word in ("rain", "sun", "oil", "gold") * 150], object)


async def published_texts(store: Store) -> str:
    """Return the digest of a pool of two shards."""
    parts = TEXTS[:500], TEXTS[500:]
    shards = tuple([Shard(sha256=await store.put(encode_texts(part)), sample_count=len(part)) for part in parts])
    return await store.put(PoolManifest(dtype="utf8", shape=(1,), shards=shards).to_bytes())


async def test_features_of_texts_are_learned_and_extracted(tmp_path: Path, executor: ThreadPoolExecutor) -> None:
    store = Store()
    digest, site = await published_texts(store), Site(store, tmp_path, executor)
    pool = await site.plain.get(digest)
    assert (await pool.take(np.array([599, 0, 500], np.uint32))).tolist() == TEXTS[[599, 0, 500]].tolist()
    assert [(part.first, part.end) for part in pool.spans()] == [(0, 500), (500, 600)]
    learned = await site.learning.learn(digest, 0, "")
    graph = await store.put(learned.graph)
    assert 4 <= learned.feature_count <= 300
    features = await whole(await site.seen.get((digest, graph)))
    assert features.shape == (600, learned.feature_count)
    extracted = await site.learning.extract(graph, encode_texts(TEXTS[:6]))
    assert np.allclose(np.frombuffer(extracted.features, "<f4").reshape(6, -1), features[:6], atol=1e-3)
    assert (await site.learning.learn(digest, 0, graph)).feature_count == learned.feature_count


@pytest.mark.parametrize("posted", [b"", b"text", encode_texts([]), encode_texts(["a"] * 10_001)])
async def test_what_is_no_text_has_no_features(tmp_path: Path, executor: ThreadPoolExecutor, posted: bytes) -> None:
    store = Store()
    digest, site = await published_texts(store), Site(store, tmp_path, executor)
    graph = await store.put((await site.learning.learn(digest, 0, "")).graph)
    with pytest.raises(InvalidInput) as caught:
        await site.learning.extract(graph, posted)
    assert (caught.value.reason, caught.value.field) == ("BAD_SAMPLES", "samples")


async def test_a_shard_with_another_number_of_texts_is_refused(tmp_path: Path, executor: ThreadPoolExecutor) -> None:
    store = Store()
    shard = Shard(sha256=await store.put(encode_texts(TEXTS[:5])), sample_count=4)
    digest = await store.put(PoolManifest(dtype="utf8", shape=(1,), shards=(shard,)).to_bytes())
    with pytest.raises(Corrupt, match="holds 5 texts, not 4"):
        await (await Site(store, tmp_path, executor).plain.get(digest)).parts()
