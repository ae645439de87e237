"""Three of each service on one broker: each run has one owner, and another takes over when that is gone."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from labelloop.eventlog.connection import connect as connect_broker
from labelloop.events.v1.events_pb2 import LabelSource, RunSpec
from labelloop.trainer.v1.trainer_pb2 import CancelRunRequest
from labelloop_cli.local.nats.server import NatsServer
from nats.aio.client import Client

from tests.blobs import Blobs, spec, write_blobs
from tests.chaos.log_watch import LogWatch
from tests.e2e.driving import start
from tests.patience import PATIENCE_S
from tests.replicas import Replicas, replicas

pytestmark = pytest.mark.asyncio(loop_scope="module")

COUNT = 3
TAKEN_OVER_S = 5.0
HANDED_OVER_S = 2.0
WAITING_RUNS = 30  # so many that no replica is left without one by chance


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def broker(tmp_path_factory: pytest.TempPathFactory, nats_binary: Path) -> AsyncIterator[NatsServer]:
    async with NatsServer(nats_binary, tmp_path_factory.mktemp("broker")) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def three(tmp_path_factory: pytest.TempPathFactory, broker: NatsServer) -> AsyncIterator[Replicas]:
    async with replicas(tmp_path_factory.mktemp("three"), broker.url, COUNT) as up:
        yield up


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def watch(broker: NatsServer) -> AsyncIterator[LogWatch]:
    client: Client = await connect_broker(broker.url, "test")
    seen = LogWatch()
    following = asyncio.create_task(seen.follow(client))
    yield seen
    following.cancel()
    await asyncio.wait([following])
    await client.close()


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Blobs:
    return write_blobs(tmp_path_factory.mktemp("pool"))


def long_spec(pool: Blobs) -> RunSpec:
    """100 rounds of two labels, then 30 of two auto-labels."""
    return spec(pool, batch_size=2, label_budget=200, auto_label_batch_size=2, auto_label_budget=60)


def models(watch: LogWatch, run_id: str) -> list[str]:
    return [s.event.model_trained.model_sha256 for s in watch.runs[run_id] if s.kind == "model_trained"]


async def whole(watch: LogWatch, run_id: str) -> list[str]:
    """Return the models of a run once it has finished."""
    async with asyncio.timeout(PATIENCE_S):
        await watch.first(run_id, lambda seen: seen.kind == "run_finished")
    return models(watch, run_id)


async def test_one_trainer_fits_each_model_and_one_oracle_answers_each_batch(
    three: Replicas, watch: LogWatch, pool: Blobs
) -> None:
    runs = [f"shared-{number}" for number in range(3)]
    for run_id in runs:
        await start(three.clients, run_id, long_spec(pool))
    made = [await whole(watch, run_id) for run_id in runs]
    assert made[0] == made[1] == made[2]
    fits, rounds = three.counted("trainer", "labelloop_fit_seconds_count"), sum(map(len, made))
    assert rounds <= fits < 1.1 * rounds  # a replica that is silent for seconds on a busy machine is no error
    events = sum(len(watch.runs[run_id]) for run_id in runs)
    lost = sum(three.counted(name, "labelloop_appends_lost_total") for name in ("trainer", "oracle"))
    assert lost < 0.1 * events


async def shares(three: Replicas, name: str) -> list[int]:
    """Return how many runs each replica of a service advances, once all know all runs."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            owned = [three.owned(replica) for replica in three.services[name]]
            if sum(owned) == WAITING_RUNS:
                return owned
            await asyncio.sleep(0.05)


async def test_runs_are_spread_over_all_replicas(three: Replicas, pool: Blobs) -> None:
    runs = [f"waiting-{number}" for number in range(WAITING_RUNS)]
    for run_id in runs:
        asked = spec(pool, label_source=LabelSource.LABEL_SOURCE_QUEUE)
        asked.dataset.classes.extend("abc")
        await start(three.clients, run_id, asked)
    for name in ("trainer", "oracle"):
        assert min(await shares(three, name)) > 0
    await asyncio.gather(*(three.clients.trainer.CancelRun(CancelRunRequest(run_id=run_id)) for run_id in runs))


@pytest.mark.parametrize("name", ["trainer", "oracle"])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM], ids=lambda how: how.name)
async def test_another_replica_takes_over_and_makes_the_same_models(
    three: Replicas, watch: LogWatch, pool: Blobs, name: str, how: signal.Signals
) -> None:
    calm = f"calm-{name}-{how.name}"
    await start(three.clients, calm, long_spec(pool))
    expected = await whole(watch, calm)
    run_id = f"{name}-{how.name}"
    await start(three.clients, run_id, long_spec(pool))
    await watch.first(run_id, lambda seen: seen.kind == "model_trained" and seen.event.round >= 3)
    owner = three.owner(name)
    assert owner.process is not None
    sent_at = asyncio.get_running_loop().time()
    os.kill(owner.process.pid, how)
    try:
        await asyncio.sleep(0.2)  # for what the owner had sent before
        last = watch.last
        assert watch.runs[run_id][-1].kind != "run_finished", "the run was over before the owner could be stopped"
        async with asyncio.timeout(PATIENCE_S):
            seen = await watch.first(run_id, lambda seen: seen.sequence > last)
        assert seen.at_s - sent_at < (HANDED_OVER_S if how == signal.SIGTERM else TAKEN_OVER_S)
        assert await whole(watch, run_id) == expected
    finally:
        if how == signal.SIGSTOP:
            os.kill(owner.process.pid, signal.SIGCONT)
        else:
            await owner.process.wait()
            await owner.start()
