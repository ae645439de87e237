"""Samples of published pools by their names: the answers of a search of all names, without reading all."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from labelloop.artifacts.artifact_cache import ArtifactCache
from labelloop.artifacts.formats import PoolManifest, SampleIndex, Shard
from labelloop.errors import InvalidInput, NotFound
from labelloop.eventlog.archived_runs import ArchivedRuns
from labelloop.events.v1.events_pb2 import PoolPublished
from labelloop.oracle.v1.oracle_pb2 import FindSamplesRequest

from oracle_svc.dataset_queries import DatasetQueries
from oracle_svc.datasets.matching import ids_of
from oracle_svc.samples.name_index import NameIndex
from oracle_svc.samples.published_pools import PublishedPools
from tests.unit.test_pool import PLENTY, Store
from tests.unused import UNUSED

SPELLINGS = ["a", " a", "a ", "\u00e9", "e\u0301", "0", "1", "01", " 1", "2.0", "\ud800", "x y", ""]
names = st.lists(st.sampled_from(SPELLINGS), max_size=12)


def index_of(pool: list[str], cuts: list[int]) -> NameIndex:
    """Add the names shard by shard; a shard without any name gives none, as one without an index does."""
    index, bounds = NameIndex(), sorted({0, len(pool), *(cut % (len(pool) + 1) for cut in cuts)})
    for start, end in pairwise(bounds):
        part = pool[start:end]
        index.add(part if any(part) else (), len(part))
    return index.finish()


@given(names, st.lists(st.integers(0, 12), max_size=3), st.lists(st.sampled_from(SPELLINGS), max_size=6))
def test_names_are_found_as_by_a_search_of_all(pool: list[str], cuts: list[int], wanted: list[str]) -> None:
    found = index_of(pool, cuts).find(wanted)
    known = [name or str(sample_id) for sample_id, name in enumerate(pool)]
    for name, sample_id in zip(wanted, found, strict=True):
        if sample_id is None:
            with pytest.raises(NotFound):
                ids_of([name], known)
        else:
            assert ids_of([name], known) == [sample_id]


def test_a_pool_without_names_takes_no_memory() -> None:
    tracemalloc.start()
    index = NameIndex()
    for _ in range(200):
        index.add((), 60_000)
    found = index.finish().find(["11999999", " 5 ", "12000000", "05", "-1", "five", "\u0665"])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == [11_999_999, 5, None, None, None, None, None]
    assert peak < 100_000


def test_names_take_twenty_bytes_each() -> None:
    tracemalloc.start()
    index = NameIndex()
    for shard in range(10):
        index.add([f"folder/with/a/long/name/{shard}-{row}.png" for row in range(10_000)], 10_000)
    found = index.finish().find(["folder/with/a/long/name/7-123.png"])
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == [70_123]
    assert held < 2_500_000


class Runs:
    def __init__(self, pool: PoolPublished) -> None:
        self.pool, self.archived = pool, ArchivedRuns()

    def get(self, run_id: str) -> Runs:
        return self


async def queries(folder: Path, *shards: list[str]) -> tuple[Store, DatasetQueries]:
    """Return a store with a pool of these names, and the queries that an oracle answers about it."""
    store, made = Store(), []
    for place, names in enumerate(shards):
        index = await store.put(SampleIndex(names=tuple(names)).to_bytes()) if any(names) else None
        made.append(Shard(sha256=f"{place:064x}", sample_count=len(names), index=index))
    digest = await store.put(PoolManifest(dtype="uint8", shape=(1,), shards=tuple(made)).to_bytes())
    pools = PublishedPools(store, ArtifactCache(store, folder, PLENTY))
    runs = Runs(PoolPublished(pool_sha256=digest, sample_count=sum(map(len, shards))))
    return store, DatasetQueries(UNUSED, pools, cast(Any, runs))


async def answer(asked: DatasetQueries, **request: Any) -> list[tuple[int, str]]:
    parts = asked.find(FindSamplesRequest(run_id="r", **request))
    return [(each.sample_id, each.name) async for part in parts for each in part.samples]


SHARDS = (["a", "b", "c"], ["", ""], ["d", "b", ""], ["f"])


async def test_samples_are_found_by_id_and_name_and_all_of_them(tmp_path: Path) -> None:
    _, asked = await queries(tmp_path, *SHARDS)
    whole = [*enumerate(["a", "b", "c", "3", "4", "d", "b", "7", "f"])]
    assert await answer(asked) == whole
    assert await answer(asked, sample_ids=[8, 0, 4, 0]) == [whole[8], whole[0], whole[4], whole[0]]
    assert await answer(asked, names=["f", " b", "4", "7"]) == [whole[8], whole[6], whole[4], whole[7]]
    with pytest.raises(NotFound, match="no sample 'aa'; did you mean 'a'"):
        await answer(asked, names=["f", "aa", "zz"])
    with pytest.raises(InvalidInput, match="sample 9 lies outside the pool, whose ids end at 8"):
        await answer(asked, sample_ids=[0, 9])


async def test_only_the_names_of_the_shards_asked_about_are_read_and_each_once(tmp_path: Path) -> None:
    shards = [[f"{place}-{row}" for row in range(20)] for place in range(30)]  # more than are kept
    store, asked = await queries(tmp_path, *shards)
    await answer(asked, sample_ids=[5, 590, 6, 591, 7])
    assert len(store.reads) == 1 + 2
    ids = [row * 20 + place for place in range(20) for row in range(30)]  # each from another shard than the one before
    before = len(store.reads)
    assert [sample_id for sample_id, _ in await answer(asked, sample_ids=ids)] == ids
    assert len(store.reads) - before <= 30
    before = len(store.reads)
    assert await answer(asked, names=["29-19", "0-0"]) == [(599, "29-19"), (0, "0-0")]
    first = len(store.reads) - before
    assert await answer(asked, names=["3-1", "3-2"]) == [(61, "3-1"), (62, "3-2")]
    assert len(store.reads) - before - first <= 1  # the index of names is kept
