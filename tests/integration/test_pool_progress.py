"""How far scorers are with fetching a pool is told while a step waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from labelloop.artifacts.artifact_cache import ArtifactCache
from labelloop.artifacts.formats import PoolManifest, Shard, encode_shard
from labelloop.artifacts.fsspec_store import FsspecArtifacts
from labelloop.domain.hold_ups import HoldUp
from labelloop.errors import InvalidInput, Unready
from labelloop.eventlog.projections import RunProjections
from labelloop.events.v1.events_pb2 import Event, PoolPublished, RunSpec, RunStarted
from labelloop.scorer.v1.scorer_pb2 import FindFetchedShardsRequest
from labelloop.trainer.v1.trainer_pb2 import RunStatus
from labelloop_cli.operations.run import _note
from structlog.testing import capture_logs

from scorer_svc.pools.pool import pools
from scorer_svc.service import ScorerService
from tests.integration.scorers import Pool, ranking, scorers
from tests.unused import UNUSED
from trainer_svc.domain.run_state import RunState
from trainer_svc.pool_progress import PoolProgress
from trainer_svc.scorers.client import ScorerClient
from trainer_svc.status import status_of

SIZES = (100, 200, 300)


class Followed:
    """The progress of one run, as it is told."""

    def __init__(self, pool: Pool, scorer_client: ScorerClient) -> None:
        self.projections = RunProjections[RunState](RunState.begin)
        self.state = cast(
            RunState, SimpleNamespace(run_id="r", pool=PoolPublished(pool_sha256=pool.digest), over=False)
        )
        self.projections.runs["r"] = self.state
        self.progress = PoolProgress(self.projections, scorer_client, every_s=0.01)

    @asynccontextmanager
    async def step(self) -> AsyncIterator[None]:
        following = asyncio.create_task(self.progress.follow())
        try:
            with self.progress.step(self.state):
                yield
        finally:
            following.cancel()
            await asyncio.wait({following})

    async def until_told(self, text: str) -> None:
        with self.projections.subscribe("r") as changed:
            while self.projections.progress.get("r") != text:
                changed.clear()
                await changed.wait()


async def test_shards_that_any_scorer_has_are_counted_until_all_are_there() -> None:
    pool = Pool(*SIZES)
    async with scorers(pool, 2) as made, ranking(pool, made) as scorer_client:
        followed = Followed(pool, scorer_client)
        made[0].fetched, made[1].fetched = [0], [0, 2]
        async with followed.step():
            await followed.until_told("the scorers fetch the pool: 2 of 3 shards, 400 of 600 samples")
            made[0].fetched = [0, 1]
            await followed.until_told("")
            made[0].fetched = [0]
            await followed.until_told("the scorers fetch the pool: 2 of 3 shards, 400 of 600 samples")
        assert followed.projections.progress["r"] == ""
        assert followed.projections.held_up() == [], "it is no fault"


async def test_a_scorer_that_does_not_say_is_left_out() -> None:
    pool = Pool(*SIZES)
    async with scorers(pool, 2) as made, ranking(pool, made) as scorer_client:
        followed = Followed(pool, scorer_client)
        made[0].fault, made[1].fetched = Unready("AWAY", "not now"), [2]
        async with followed.step():
            await followed.until_told("the scorers fetch the pool: 1 of 3 shards, 300 of 600 samples")


async def test_a_step_succeeds_where_progress_cannot_be_told() -> None:
    asked: asyncio.Queue[str] = asyncio.Queue()

    class Broken:
        async def fetched(self, pool: str) -> None:
            asked.put_nowait(pool)
            raise Unready("AWAY", "no manifest")

    followed = Followed(Pool(*SIZES), cast(ScorerClient, Broken()))
    with capture_logs() as logs:
        async with followed.step():
            assert await asked.get() == await asked.get(), "it is asked again"
    assert {(line["event"], line["problem"]) for line in logs} == {("progress_unknown", "no manifest")}


async def test_a_step_that_fails_has_no_progress_any_more() -> None:
    pool = Pool(*SIZES)
    async with scorers(pool, 1) as made, ranking(pool, made) as scorer_client:
        followed = Followed(pool, scorer_client)

        async def failing() -> None:
            async with followed.step():
                await followed.until_told("the scorers fetch the pool: 0 of 3 shards, 0 of 600 samples")
                raise InvalidInput("ODD", "no such strategy")

        with pytest.raises(InvalidInput, match="no such"):
            await failing()
        assert followed.projections.progress["r"] == ""


async def test_a_scorer_tells_the_shards_that_are_on_its_disk(tmp_path: Path) -> None:
    store = FsspecArtifacts(f"file://{tmp_path}/store")
    cache = ArtifactCache(store, tmp_path / "cache", 1_000_000)
    data = [encode_shard(np.full((5, 2), value, np.float32)) for value in range(3)]
    shards = tuple([Shard(sha256=await store.put(each), sample_count=5) for each in data])
    pool = await store.put(PoolManifest(dtype="float32", shape=(2,), shards=shards).to_bytes())
    service = ScorerService(pools(store, cache), UNUSED, UNUSED, UNUSED, UNUSED, UNUSED, UNUSED, 1, cache)
    request = FindFetchedShardsRequest(pool_sha256=pool)
    assert list((await service.FindFetchedShards(request, UNUSED)).shards) == []
    for place in (2, 0):
        await cache.map(shards[place].sha256)
    assert list((await service.FindFetchedShards(request, UNUSED)).shards) == [0, 2]
    with pytest.raises(InvalidInput, match="64 lower-case hex digits"):
        await service.FindFetchedShards(FindFetchedShardsRequest(pool_sha256="../x"), UNUSED)


async def test_a_scorer_tells_how_far_it_has_read_a_pool_that_exceeds_its_cache(tmp_path: Path) -> None:
    store = FsspecArtifacts(f"file://{tmp_path}/store")
    data = [encode_shard(np.full((5, 2), value, np.float32)) for value in range(4)]
    cache = ArtifactCache(store, tmp_path / "cache", 2 * len(data[0]))
    shards = tuple([Shard(sha256=await store.put(each), sample_count=5) for each in data])
    digest = await store.put(PoolManifest(dtype="float32", shape=(2,), shards=shards).to_bytes())
    known = pools(store, cache)
    service = ScorerService(known, UNUSED, UNUSED, UNUSED, UNUSED, UNUSED, UNUSED, 1, cache)
    request = FindFetchedShardsRequest(pool_sha256=digest)

    async def told() -> list[int]:
        return list((await service.FindFetchedShards(request, UNUSED)).shards)

    for _ in range(2):  # rankings
        async with aclosing((await known.get(digest)).groups()) as groups:
            counts = [len(await told()) async for _ in groups]
        assert counts == [1, 2, 3, 4]
        assert await told() == [0, 1, 2, 3], "it is complete, though the cache holds half"


def test_people_who_watch_a_run_see_its_progress() -> None:
    started = Event(run_id="r", run_started=RunStarted(spec=RunSpec(label_budget=10, batch_size=5)))
    run: RunStatus = status_of(
        RunState.begin(started, datetime.now(UTC)), [HoldUp("trainer", "1 of 3 shards", 0, at_work=True)]
    )
    assert (run.progress, run.message) == ("1 of 3 shards", "")
    assert _note(run).endswith(", 1 of 3 shards")
