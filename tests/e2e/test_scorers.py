"""Runs over several shards with three scorers give the same models as with one, even if a scorer fails."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from labelloop.artifacts.formats import SHARD_SAMPLES, PoolManifest
from labelloop.artifacts.opening import open_store
from labelloop.artifacts.store import ArtifactStore
from labelloop.eventlog.connection import connect as connect_broker
from labelloop.events.v1.events_pb2 import RunSpec
from labelloop.scorer.v1.scorer_pb2 import RankPoolRequest, Strategy
from labelloop.trainer.v1.trainer_pb2 import GetRunRequest
from labelloop_cli.clients import Clients, Endpoints, connect
from labelloop_cli.local.stack import Service, Stack
from pyroaring import BitMap

from tests.blobs import Blobs, certified_spec, spec, write_blobs
from tests.e2e.driving import finish, reach_round, start
from trainer_svc.model.onnx_export import to_onnx
from trainer_svc.scorers.channels import ScorerChannels
from trainer_svc.scorers.client import ScorerClient
from trainer_svc.scorers.sharding import share_out

SHARDS, CLASSES = 6, 3
ROUNDS = 24


@dataclass(frozen=True)
class Scorers:
    """Clients of a trainer, its log file, and its scorers by address."""

    clients: Clients
    log_file: Path
    services: dict[str, Service]


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    """Noisy 2 x 2 images of three classes; enough shards for more than one scorer, the last one short."""
    rng = np.random.default_rng(11)
    kinds = rng.integers(40, 200, (CLASSES, 2, 2))
    made = Blobs(*(tmp_path / f"{name}.npy" for name in ("pool", "pool_labels", "evaluation", "evaluation_labels")))
    sizes = ((SHARDS - 1) * SHARD_SAMPLES + 10_000, 200)
    files = ((made.samples, made.labels), (made.evaluation, made.evaluation_labels))
    for count, (samples, labels) in zip(sizes, files, strict=True):
        truth = rng.integers(0, CLASSES, count)
        np.save(samples, np.clip(kinds[truth] + rng.normal(0, 40, (count, 2, 2)), 0, 255).astype(np.uint8))
        np.save(labels, truth.astype(np.int32))
    return made


def whole_spec(blobs: Blobs, **changes: object) -> RunSpec:
    """Two labels a round, then equally many rounds of auto-labels."""
    sizes = {"batch_size": 2, "label_budget": ROUNDS, "auto_label_batch_size": 2, "auto_label_budget": ROUNDS}
    return spec(blobs, **(sizes | changes))


async def with_one_scorer(stack: Stack, blobs: Blobs) -> str:
    """Carry out the run with one scorer; return its last model's digest."""
    async with connect(stack.endpoints) as clients:
        await start(clients, "one", whole_spec(blobs))
        return (await finish(clients, "one")).run.latest.model_sha256


@asynccontextmanager
async def three_scorers(stack: Stack, folder: Path) -> AsyncIterator[Scorers]:
    """Replace the stack's trainer by one with three scorers of its own, with empty caches."""
    await stack.services["trainer"].stop()
    shared = {"LABELLOOP_NATS_URL": stack.nats_url}
    async with AsyncExitStack() as leaving:
        services = {}
        for number in range(3):
            own = folder / f"scorer{number}"
            own.mkdir()
            scorer = Service("scorer", own, {"LABELLOOP_CACHE_DIR": str(own / "cache"), **shared})
            leaving.push_async_callback(scorer.stop)
            await scorer.start()
            services[scorer.address] = scorer
        peers = {"LABELLOOP_SCORER": f"ipv4:{','.join(services)}", "LABELLOOP_ORACLE": stack.endpoints.oracle}
        trainer = Service("trainer", folder, shared | peers)
        leaving.push_async_callback(trainer.stop)
        await trainer.start()
        endpoints = Endpoints(trainer=trainer.address, scorer=next(iter(services)), oracle=stack.endpoints.oracle)
        clients = await leaving.enter_async_context(connect(endpoints))
        yield Scorers(clients, trainer.log_file, services)


@asynccontextmanager
async def artifacts_of(stack: Stack) -> AsyncIterator[ArtifactStore]:
    broker = await connect_broker(stack.nats_url, "test")
    try:
        yield open_store("jetstream:", broker)
    finally:
        await broker.close()


async def busy_scorer(stack: Stack, scorers: Scorers, run_id: str) -> Service:
    """A scorer that is assigned shards of a run's pool."""
    pool = (await scorers.clients.trainer.GetRun(GetRunRequest(run_id=run_id))).run.pool.pool_sha256
    async with artifacts_of(stack) as artifacts:
        manifest = PoolManifest.from_bytes(await artifacts.get(pool))
    assert len(manifest.shards) == SHARDS
    parts = share_out({place: shard.sha256 for place, shard in enumerate(manifest.shards)}, scorers.services)
    return scorers.services[next(iter(parts))]


async def features_and_model(artifacts: ArtifactStore) -> tuple[str, str]:
    """Digests of a graph from the pool's images to five features, and of a model of these."""
    rng = np.random.default_rng(5)
    graph, model = (rng.normal(0, 1, shape).astype(np.float32) for shape in ((5, 5), (CLASSES, 6)))
    return await artifacts.put(to_onnx(graph, "uint8")), await artifacts.put(to_onnx(model, "float32"))


@pytest.mark.parametrize("seen", ["pixels", "features"])
async def test_three_scorers_rank_as_one_does(stack: Stack, blobs: Blobs, tmp_path: Path, seen: str) -> None:
    model, features = await with_one_scorer(stack, blobs), ""
    async with connect(stack.endpoints) as clients, artifacts_of(stack) as artifacts:
        pool = (await clients.trainer.GetRun(GetRunRequest(run_id="one"))).run.pool.pool_sha256
        if seen == "features":
            features, model = await features_and_model(artifacts)
        async with three_scorers(stack, tmp_path) as scorers:
            replicas = ScorerChannels(",".join(scorers.services))
            await replicas.look_up()
            for strategy in Strategy.values()[1:]:
                request = RankPoolRequest(
                    pool_sha256=pool,
                    model_sha256=model,
                    strategy=strategy,
                    limit=500,
                    leave_out=BitMap([1, 70_000]).serialize(),
                    seed=4,
                    with_samples=True,
                    features_sha256=features,
                )
                scorer_client = ScorerClient(replicas, artifacts)
                ranked = await scorer_client.rank(pool, model, strategy, 500, [1, 70_000], 4, features=features)
                assert ranked == await clients.scorer.RankPool(request)
                assert ranked.HasField("samples")
                assert list(ranked.samples.shape) == ([5] if features else [2, 2])
            await replicas.close()


async def test_runs_with_three_scorers_end_in_the_model_of_one(stack: Stack, blobs: Blobs, tmp_path: Path) -> None:
    expected = await with_one_scorer(stack, blobs)
    async with three_scorers(stack, tmp_path) as scorers:
        await start(scorers.clients, "parent", whole_spec(blobs, auto_label_budget=0))
        await finish(scorers.clients, "parent")
        child = whole_spec(blobs, label_budget=0)
        await start(scorers.clients, "child", child, continues="parent")  # it reads samples of all shards again
        assert (await finish(scorers.clients, "child")).run.latest.model_sha256 == expected


async def test_runs_on_learned_features_give_the_same_model_with_three_scorers(stack: Stack, tmp_path: Path) -> None:
    """With a joint strategy."""
    made = certified_spec(write_blobs(tmp_path), label_budget=20)
    async with connect(stack.endpoints) as clients:
        await start(clients, "one", made)
        expected = (await finish(clients, "one")).run.latest
    async with three_scorers(stack, tmp_path) as scorers:
        await start(scorers.clients, "three", made)
        found = (await finish(scorers.clients, "three")).run.latest
    assert found.model_sha256 == expected.model_sha256


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
async def test_a_run_gives_the_same_model_if_a_scorer_is_killed_or_stopped(
    stack: Stack, blobs: Blobs, tmp_path: Path, fault: signal.Signals
) -> None:
    expected = await with_one_scorer(stack, blobs)
    async with three_scorers(stack, tmp_path) as scorers:
        victim = await busy_scorer(stack, scorers, "one")
        assert victim.process is not None
        await start(scorers.clients, "three", whole_spec(blobs))
        await reach_round(scorers.clients, "three", 1)
        os.kill(victim.process.pid, fault)
        try:
            assert (await finish(scorers.clients, "three")).run.latest.model_sha256 == expected
        finally:
            if fault == signal.SIGSTOP:
                os.kill(victim.process.pid, signal.SIGCONT)
        assert victim.address in scorers.log_file.read_text()  # it was called and did not answer
