"""Pools mapped from a cache on disk: read from the store once, verified at each load, always complete."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from labelloop.artifacts.artifact_cache import ArtifactCache
from labelloop.artifacts.formats import PoolManifest, Shard
from labelloop.artifacts.store import digest_of
from labelloop.errors import Corrupt, InvalidInput, NotFound, Unready
from labelloop.events.v1.events_pb2 import SampleKind, SampleLayout, TableColumn
from numpy.typing import NDArray
from structlog.testing import capture_logs

from scorer_svc.pools.pool import Pool, pools
from scorer_svc.pools.window import MappedWindow

SAMPLES = np.random.default_rng(0).integers(0, 256, (100, 2, 3)).astype(np.uint8)
PLENTY = 10**9
IMAGE = SampleKind.SAMPLE_KIND_IMAGE


class Store:
    """A store in memory that records reads."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}
        self.reads: list[str] = []

    async def put(self, data: bytes) -> str:
        self.held[digest_of(data)] = data
        return digest_of(data)

    async def get(self, digest: str) -> bytes:
        self.reads.append(digest)
        if digest not in self.held:
            raise NotFound("UNKNOWN_ARTIFACT", "there is none")
        return self.held[digest]


async def published(
    store: Store, samples: NDArray[np.generic], *bounds: int, layout: bytes = b""
) -> tuple[str, list[str]]:
    """Return the digests of a pool, cut at ``bounds``, and its shards."""
    parts = np.split(samples, bounds)
    digests = [await store.put(part.tobytes()) for part in parts]
    shards = tuple(Shard(sha256=digest, sample_count=len(part)) for digest, part in zip(digests, parts, strict=True))
    described = await store.put(layout) if layout else None
    manifest = PoolManifest.model_validate(
        {"dtype": str(samples.dtype), "shape": samples.shape[1:], "shards": shards, "layout": described}
    )
    return await store.put(manifest.to_bytes()), digests


async def loaded(store: Store, folder: Path, digest: str, bytes_max: int = PLENTY) -> Pool:
    return await pools(store, ArtifactCache(store, folder, bytes_max)).get(digest)


@pytest.mark.parametrize("samples", [SAMPLES, SAMPLES.astype(np.float32) / 7])
async def test_a_pool_equals_the_published_samples_for_any_shards(tmp_path: Path, samples: NDArray[np.generic]) -> None:
    store = Store()
    for bounds in ((), (40,), (1, 2, 99), (10, 20, 30, 40, 50, 60)):
        pool = await loaded(store, tmp_path, (await published(store, samples, *bounds))[0])
        assert np.array_equal(np.concatenate([part.samples for part in await pool.parts()]), samples)
        assert [part.first for part in await pool.parts()] == [0, *bounds]
        asked = np.array([99, 0, 40, 40, 7], np.uint32)
        assert np.array_equal(await pool.take(asked), samples[asked])
        assert len(await pool.take(asked[:0])) == 0


async def test_a_pool_has_the_layout_that_its_manifest_names(tmp_path: Path) -> None:
    store = Store()
    first = SampleLayout(kind=IMAGE, height=1, width=3, channels=2, channels_first=True, full_scale=9)
    digest, _ = await published(store, SAMPLES, layout=first.SerializeToString())
    assert (await loaded(store, tmp_path, digest)).layout == first
    digest, _ = await published(store, SAMPLES)
    plain = SampleLayout(kind=IMAGE, height=2, width=3, channels=1, full_scale=255)
    assert (await loaded(store, tmp_path, digest)).layout == plain


@pytest.mark.parametrize(
    "layout",
    [
        b"\xff",
        SampleLayout(kind=IMAGE, height=2, width=4, channels=1, full_scale=255).SerializeToString(),
        SampleLayout(kind=IMAGE, height=2, width=3, channels=1).SerializeToString(),
        SampleLayout(kind=IMAGE, height=2, width=3, channels=1, full_scale=math.nan).SerializeToString(),
        SampleLayout(kind=SampleKind.SAMPLE_KIND_ROW, columns=[TableColumn(name="a")]).SerializeToString(),
        SampleLayout(kind=99).SerializeToString(),  # type: ignore[arg-type]
    ],
)
async def test_a_layout_that_does_not_fit_the_pool_is_refused(tmp_path: Path, layout: bytes) -> None:
    store = Store()
    digest, _ = await published(store, SAMPLES, layout=layout)
    with pytest.raises(Corrupt) as raised:
        await loaded(store, tmp_path, digest)
    assert raised.value.reason == "BAD_LAYOUT"


async def test_only_requested_shards_are_read_and_each_once(tmp_path: Path) -> None:
    store = Store()
    digest, shards = await published(store, SAMPLES, 40, 70)
    pool = await loaded(store, tmp_path, digest)
    assert [part.first for part in await pool.parts([2, 0, 2])] == [0, 70]
    await pool.take(np.array([5, 99], np.uint32))
    assert store.reads == [digest, shards[0], shards[2]]
    again = await loaded(store, tmp_path, digest)
    await again.parts()
    assert store.reads == [digest, shards[0], shards[2], digest, shards[1]]


async def test_ids_outside_the_pool_are_refused(tmp_path: Path) -> None:
    store = Store()
    pool = await loaded(store, tmp_path, (await published(store, SAMPLES, 40))[0])
    with pytest.raises(InvalidInput, match="shards end at 1"):
        await pool.parts([0, 2])
    with pytest.raises(InvalidInput, match="ids end at 99"):
        await pool.take(np.array([3, 100], np.uint32))


async def test_a_missing_shard_is_an_error_until_the_store_has_it(tmp_path: Path) -> None:
    store = Store()
    digest, shards = await published(store, SAMPLES, 40)
    lost = store.held.pop(shards[1])
    pool = await loaded(store, tmp_path, digest)
    with pytest.raises(NotFound):
        await pool.parts()
    store.held[shards[1]] = lost
    assert len(await pool.parts()) == 2


async def test_a_shard_whose_length_differs_from_the_manifest_is_an_error(tmp_path: Path) -> None:
    store = Store()
    shard = Shard(sha256=await store.put(b"12345"), sample_count=1)
    digest = await store.put(PoolManifest(dtype="uint8", shape=(6,), shards=(shard,)).to_bytes())
    with pytest.raises(Corrupt):
        await (await loaded(store, tmp_path, digest)).parts()


@pytest.mark.parametrize("damage", [b"", b"something else"])
async def test_a_damaged_cache_file_is_read_from_the_store_again(tmp_path: Path, damage: bytes) -> None:
    store = Store()
    digest, shards = await published(store, SAMPLES)
    await (await loaded(store, tmp_path, digest)).parts()
    (tmp_path / shards[0]).write_bytes(damage)
    [part] = await (await loaded(store, tmp_path, digest)).parts()
    assert np.array_equal(part.samples, SAMPLES)
    assert digest_of((tmp_path / shards[0]).read_bytes()) == shards[0]


async def test_the_cache_evicts_least_recently_used_shards_but_mapped_ones_stay(tmp_path: Path) -> None:
    store = Store()
    digest, shards = await published(store, SAMPLES, 25, 50, 75)
    shard_bytes = SAMPLES[:25].nbytes
    pool = await loaded(store, tmp_path, digest, bytes_max=2 * shard_bytes)
    parts = await pool.parts()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(shards[2:])
    assert np.array_equal(np.concatenate([part.samples for part in parts]), SAMPLES)


@pytest.mark.parametrize(("held", "cached"), [(1, 1), (2, 3), (3, 9), (9, 9)])
async def test_a_pool_larger_than_memory_and_disk_is_read_in_groups(tmp_path: Path, held: int, cached: int) -> None:
    store = Store()
    digest, _ = await published(store, SAMPLES, 10, 20, 30, 40, 50, 60, 70, 80)
    shard_bytes = SAMPLES[:10].nbytes
    window, cache = MappedWindow(held * shard_bytes), ArtifactCache(store, tmp_path, cached * shard_bytes)
    pool = await pools(store, cache, window).get(digest)
    for _ in range(3):
        groups = [[part.first for part in group] async for group in pool.groups([3, 1, 2, 5])]
        assert sorted(first for group in groups for first in group) == [10, 20, 30, 50]
        assert [len(group) for group in groups] == ([4] if held == 9 else [1] * 4)
        seen = np.zeros_like(SAMPLES)
        async for group in pool.groups():
            for part in group:
                seen[part.first : part.end] = part.samples
        assert np.array_equal(seen, SAMPLES)
        asked = np.array([99, 0, 40, 40, 7, 55], np.uint32)
        assert np.array_equal(await pool.take(asked), SAMPLES[asked])
        assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= cached * shard_bytes


async def test_what_is_still_in_the_cache_is_read_before_it_is_evicted(tmp_path: Path) -> None:
    """In their order, each shard would be evicted just before its turn, and all fetched in each ranking."""
    store = Store()
    digest, _ = await published(store, SAMPLES, 10, 20, 30, 40, 50, 60, 70, 80)  # nine shards
    shard_bytes = SAMPLES[:10].nbytes
    window, cache = MappedWindow(2 * shard_bytes), ArtifactCache(store, tmp_path, 6 * shard_bytes)
    pool = await pools(store, cache, window).get(digest)
    for _ in range(3):
        before = len(store.reads)
        assert len([group async for group in pool.groups()]) == 9
    assert len(store.reads) - before <= 9 - 6 + 1


async def test_a_pool_larger_than_the_cache_is_reported(tmp_path: Path) -> None:
    store = Store()
    digest, _ = await published(store, SAMPLES, 40)
    for cached, told in ((SAMPLES.nbytes, 0), (SAMPLES.nbytes - 1, 1)):
        with capture_logs() as logs:
            await loaded(store, tmp_path, digest, bytes_max=cached)
        assert [entry["event"] for entry in logs] == ["pool_exceeds_cache"] * told


async def test_the_error_for_an_unusable_cache_folder_names_the_setting(tmp_path: Path) -> None:
    store = Store()
    (tmp_path / "file").touch()
    pool = await loaded(store, tmp_path / "file" / "cache", (await published(store, SAMPLES))[0])
    with pytest.raises(Unready, match="LABELLOOP_CACHE_DIR"):
        await pool.parts()
