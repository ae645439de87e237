"""A scorer on its own core, with pools of any size."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from labelloop.artifacts.formats import SHARD_SAMPLES, PoolManifest, Shard
from labelloop.artifacts.opening import open_store
from labelloop.artifacts.store import ArtifactStore
from labelloop.eventlog.connection import connect as connect_broker
from labelloop.scorer.v1.scorer_pb2 import RankPoolRequest, RankPoolResponse, Strategy
from labelloop.trainer.v1.trainer_pb2 import GetModelRequest
from labelloop_cli.clients import Clients, connect
from labelloop_cli.local.stack import running
from numpy.typing import NDArray

from tests.bench.article import mnist
from tests.bench.cores import client_and_server_core, starting_on
from tests.bench.services import article_run, run_experiment

_EXPERIMENT = "random_400"
_LIMIT = 10


@dataclass(frozen=True)
class Resident:
    """A scorer that runs on ``core`` and maps shards from the folder ``cache``."""

    clients: Clients
    core: int
    pid: int
    cache: Path
    store: ArtifactStore
    model: bytes
    digest: str

    async def publish(self, sample_count: int) -> str:
        """Publish a pool with its shards already in the scorer's cache; return its digest."""
        self.cache.mkdir(parents=True, exist_ok=True)
        shards = []
        for samples in shards_of(sample_count):
            shard = Shard(sha256=sha256(samples.data).hexdigest(), sample_count=len(samples))
            (self.cache / shard.sha256).write_bytes(samples.data)
            shards.append(shard)
        return await self.store.put(PoolManifest(dtype="uint8", shape=(784,), shards=tuple(shards)).to_bytes())

    async def rank(self, pool: str, strategy: Strategy.ValueType) -> tuple[float, RankPoolResponse]:
        """Return the seconds from request to response, and the response."""
        request = RankPoolRequest(pool_sha256=pool, model_sha256=self.digest, strategy=strategy, limit=_LIMIT)
        start = time.perf_counter()
        response = await self.clients.scorer.RankPool(request)
        return time.perf_counter() - start, response

    @property
    def memory_mb(self) -> float:
        """The scorer's resident memory, including mapped files."""
        fields = (line.split() for line in Path(f"/proc/{self.pid}/status").read_text().splitlines())
        return next(int(field[1]) for field in fields if field[0] == "VmRSS:") * 1024 / 1e6


def shards_of(sample_count: int) -> Iterator[NDArray[np.uint8]]:
    """Yield shards ``[n, 784]``: MNIST's images, then repeatedly the same ones shifted by one more pixel."""
    images = mnist().samples[:].reshape(-1, 784)
    for start in range(0, sample_count, SHARD_SAMPLES):
        rows = np.arange(start, min(start + SHARD_SAMPLES, sample_count))
        shard = images[rows % len(images)]
        for turn in np.unique(rows // len(images)):
            chosen = rows // len(images) == turn
            shard[chosen] = np.roll(shard[chosen], turn, axis=1)
        yield np.ascontiguousarray(shard)


@asynccontextmanager
async def resident() -> AsyncIterator[Resident]:
    """Run the services with a model of 400 labels; all run on one core, only the scorer is busy."""
    core = client_and_server_core()[1]
    async with AsyncExitStack() as exits:
        folder = Path(exits.enter_context(TemporaryDirectory()))
        with starting_on(core):
            stack = await exits.enter_async_context(running(folder))
        clients = await exits.enter_async_context(connect(stack.endpoints))
        broker = await connect_broker(stack.nats_url, "bench")
        exits.push_async_callback(broker.close)
        await run_experiment(clients, article_run(_EXPERIMENT), _EXPERIMENT, "")
        answer = await clients.trainer.GetModel(GetModelRequest(run_id=_EXPERIMENT))
        process = stack.services["scorer"].process
        assert process is not None, "services are up"
        store = open_store("jetstream:", broker)
        cache = folder / "cache" / "artifacts"
        yield Resident(clients, core, process.pid, cache, store, answer.model, answer.model_sha256)
