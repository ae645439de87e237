"""Ten scorer processes share a pool's shards; when one joins or leaves, only its own shards move."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import numpy as np
import pytest
from labelloop.artifacts.formats import PoolManifest, Shard
from labelloop.artifacts.opening import open_store
from labelloop.artifacts.store import ArtifactStore
from labelloop.eventlog.connection import connect as connect_broker
from labelloop.eventlog.log import EventLog
from labelloop.rpc.server import CHANNEL_OPTIONS
from labelloop.rpc.tls import channel
from labelloop.scorer.v1.scorer_pb2 import RankPoolRequest, RankPoolResponse, Strategy
from labelloop.scorer.v1.scorer_pb2_grpc import ScorerServiceStub
from labelloop_cli.local.nats.server import NatsServer
from labelloop_cli.local.stack import Service

from trainer_svc.model.onnx_export import to_onnx
from trainer_svc.scorers.addresses import Host
from trainer_svc.scorers.channels import ScorerChannels
from trainer_svc.scorers.client import ScorerClient

SCORERS, SHARDS, SHARD_SAMPLES, FEATURES, CLASSES = 10, 200, 50, 16, 4
LIMIT = 300


class Fleet:
    """Scorers by address; ``there`` are those that the name resolves to."""

    def __init__(self, folder: Path, nats_url: str) -> None:
        self._folder, self._nats_url = folder, nats_url
        self._caches: dict[str, Path] = {}
        self._services: dict[str, Service] = {}

    @property
    def there(self) -> list[str]:
        return list(self._services)

    async def start(self, name: str) -> str:
        own = self._folder / name
        own.mkdir()
        environment = {"LABELLOOP_NATS_URL": self._nats_url, "LABELLOOP_CACHE_DIR": str(own)}
        service = Service("scorer", own, environment)
        await service.start()
        self._caches[service.address], self._services[service.address] = own / "artifacts", service
        return service.address

    async def stop(self, address: str) -> None:
        await self._services.pop(address).stop()

    async def stop_all(self) -> None:
        await asyncio.gather(*(self.stop(address) for address in self.there))

    async def look_up(self, host: Host) -> list[str]:
        """Resolve the name, as DNS does in a cluster."""
        return self.there

    def holdings(self) -> dict[str, set[str]]:
        """The shards that each scorer has fetched so far."""
        return {address: {file.name for file in cache.glob("*")} for address, cache in self._caches.items()}


@pytest.fixture
async def store(nats_server: NatsServer) -> AsyncIterator[ArtifactStore]:
    client = await connect_broker(nats_server.url, "test")
    await EventLog(client).ensure_stream()
    yield open_store("jetstream:", client)
    await client.close()


@pytest.fixture
async def fleet(nats_server: NatsServer, store: ArtifactStore, tmp_path: Path) -> AsyncIterator[Fleet]:
    fleet = Fleet(tmp_path, nats_server.url)
    async with AsyncExitStack() as exits:
        exits.push_async_callback(fleet.stop_all)
        await asyncio.gather(*(fleet.start(f"scorer{number}") for number in range(SCORERS)))
        yield fleet


async def publish(store: ArtifactStore) -> tuple[str, str]:
    """Publish a pool and a model, and return their digests."""
    rng = np.random.default_rng(5)
    shards = []
    for _ in range(SHARDS):
        samples = rng.integers(0, 256, (SHARD_SAMPLES, FEATURES), np.uint8)
        shards.append(Shard(sha256=await store.put(samples.tobytes()), sample_count=SHARD_SAMPLES))
    pool = PoolManifest(dtype="uint8", shape=(FEATURES,), shards=tuple(shards))
    weights = rng.normal(0, 1, (CLASSES, FEATURES + 1)).astype(np.float32)
    return await store.put(pool.to_bytes()), await store.put(to_onnx(weights, "uint8"))


async def by_one_scorer(address: str, pool: str, model: str) -> RankPoolResponse:
    request = RankPoolRequest(
        pool_sha256=pool, model_sha256=model, strategy=Strategy.STRATEGY_MARGIN, limit=LIMIT, with_samples=True
    )
    async with channel(address, None, CHANNEL_OPTIONS) as way:
        response: RankPoolResponse = await ScorerServiceStub(way).RankPool(request)
    return response


async def test_shards_are_spread_and_few_move_when_scorers_change(fleet: Fleet, store: ArtifactStore) -> None:
    pool, model = await publish(store)
    replicas = ScorerChannels("scorers:1", lookup=fleet.look_up)
    scorer_client = ScorerClient(replicas, store)

    async def rank() -> dict[str, set[str]]:
        await replicas.look_up()
        answers.append(await scorer_client.rank(pool, model, Strategy.STRATEGY_MARGIN, LIMIT, [], 0))
        return fleet.holdings()

    answers: list[RankPoolResponse] = []
    with_ten = await rank()
    shares = Counter({address: len(shards) for address, shards in with_ten.items()})
    assert shares.total() == SHARDS  # each is at one scorer
    assert len(+shares) == SCORERS
    assert max(shares.values()) < 2 * SHARDS / SCORERS

    lost = fleet.there[0]
    await fleet.stop(lost)
    with_nine = await rank()
    moved = {address: shards - with_ten[address] for address, shards in with_nine.items()}
    assert set().union(*moved.values()) == with_ten[lost]
    assert sum(map(len, moved.values())) == len(with_ten[lost])
    assert sum(map(bool, moved.values())) > SCORERS // 3  # not all to one

    new = await fleet.start("another")
    with_another = await rank()
    assert {address: with_another[address] for address in with_nine} == with_nine  # nobody else fetched anything
    assert 0 < len(with_another[new]) < 2 * SHARDS / SCORERS

    alone = await by_one_scorer(new, pool, model)
    assert answers == [alone] * 3
    assert len(alone.sample_ids) == LIMIT
    await replicas.close()
