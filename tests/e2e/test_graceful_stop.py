"""Graceful stop of services: they drain, answer calls in progress and exit with 0; runs end as they would have.

All tests but one share a stack, and leave all of its services running.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import grpc
import numpy as np
import pytest
import pytest_asyncio
from labelloop.events.v1.events_pb2 import LabelSource, Protocol, RunSpec
from labelloop.oracle.v1.oracle_pb2 import (
    OpenSample,
    SubmitLabelsRequest,
    SubmitLabelsResponse,
    SubmittedLabel,
)
from labelloop.scorer.v1.scorer_pb2 import ClusterPoolRequest
from labelloop.trainer.v1.trainer_pb2 import (
    CancelRunRequest,
    CancelRunResponse,
    GetRunRequest,
    GetRunResponse,
    ListLabelsRequest,
    ListRunsRequest,
    Phase,
    WatchRunRequest,
)
from labelloop.trainer.v1.trainer_pb2_grpc import TrainerServiceStub
from labelloop_cli.clients import Clients, connect
from labelloop_cli.local.nats.port import HOST
from labelloop_cli.local.stack import Service, Stack, running

from tests.blobs import Blobs, spec, write_blobs
from tests.e2e.driving import finish, start, waiting_samples
from tests.e2e.stopping import (
    ask_to_stop,
    brought_back,
    closes,
    leaves,
    reach_event,
    until,
)
from tests.e2e.test_crashes import ROUNDS, check_log, long_spec, process_id
from tests.patience import PATIENCE_S

if TYPE_CHECKING:
    from labelloop.trainer.v1.trainer_pb2_grpc import TrainerServiceAsyncStub

pytestmark = pytest.mark.asyncio(loop_scope="module")

SERVICES = ["trainer", "scorer", "oracle"]
LABEL_ROUNDS = ROUNDS // 2  # two labels each; as many rounds of auto-labels follow
MOMENTS = 3
SLOW_LABELS, SLOW_VALUES, SLOW_CLUSTERS = 3_000, 3_000, 220
DRAIN_S = 2.0
AT_ONCE_S = 2.0
CALLERS, ANSWERS_BEFORE = 16, 100

T = TypeVar("T")


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Blobs:
    return write_blobs(tmp_path_factory.mktemp("blobs"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def up(tmp_path_factory: pytest.TempPathFactory, nats_binary: Path) -> AsyncIterator[Stack]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABELLOOP_DRAIN_S", str(DRAIN_S))
        async with running(tmp_path_factory.mktemp("graceful") / "store") as stack:
            yield stack


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(up: Stack) -> AsyncIterator[Clients]:
    async with connect(up.endpoints) as clients:
        yield clients


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def calm(client: Clients, pool: Blobs) -> GetRunResponse:
    await start(client, "calm", long_spec(pool))
    return await finish(client, "calm")


def moments(victim: str) -> list[tuple[str, signal.Signals]]:
    """Draw points of a run, in order, and the signal to send at each; seeded by ``victim``."""
    rng = random.Random(victim)
    rounds = sorted(rng.sample(range(5, 2 * LABEL_ROUNDS - 10), MOMENTS))
    labelling, auto_labelling = ["labels_requested", "label.>", "model_trained"], ["samples_auto_labelled"]
    kinds = [rng.choice(labelling if number < LABEL_ROUNDS else auto_labelling) for number in rounds]
    return [
        (f"{number}.{kind}", rng.choice([signal.SIGTERM, signal.SIGINT]))
        for number, kind in zip(rounds, kinds, strict=True)
    ]


def by_hand(blobs: Blobs) -> RunSpec:
    """The spec of a run that waits for people to label its first batch."""
    made = spec(blobs, label_source=LabelSource.LABEL_SOURCE_QUEUE, protocol=Protocol.PROTOCOL_HONEST)
    made.dataset.labels, made.dataset.classes[:] = "", ["a", "b", "c"]
    made.dataset.evaluation = made.dataset.evaluation_labels = ""
    made.stopping_sample_count = 0
    return made


@pytest.mark.parametrize("victim", SERVICES)
async def test_stopping_a_service_does_not_change_how_a_run_ends(
    up: Stack, client: Clients, pool: Blobs, calm: GetRunResponse, victim: str
) -> None:
    run_id, service = f"rough-{victim}", up.services[victim]
    await start(client, run_id, long_spec(pool))
    async with brought_back(service):
        for place, number in moments(victim):
            await reach_event(up, f"labelloop.v1.{run_id}.{place}")
            assert await ask_to_stop(service, number) < AT_ONCE_S
            await service.start()
        rough = await finish(client, run_id)
    assert rough.run.phase == Phase.PHASE_FINISHED
    assert rough.run.latest.model_sha256 == calm.run.latest.model_sha256
    assert rough.run.labels_paid == calm.run.labels_paid
    await check_log(up, run_id)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("name", SERVICES)
async def test_a_service_waiting_for_the_broker_at_startup_stops_at_once(
    tmp_path: Path, name: str, number: signal.Signals
) -> None:
    service = Service(name, tmp_path, {"LABELLOOP_NATS_URL": f"nats://{HOST}:1"})

    async def waits() -> bool:
        return service.log_file.exists() and "broker_unreachable" in service.log_file.read_text()

    starting = asyncio.create_task(service.start())
    await until(waits)
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    assert await ask_to_stop(service, number) < AT_ONCE_S


async def test_services_stop_at_once_when_the_broker_is_down(up: Stack) -> None:
    assert up.broker is not None
    async with brought_back(*up.services.values()):
        await up.broker.stop()
        try:
            assert max(await asyncio.gather(*map(ask_to_stop, up.services.values()))) < AT_ONCE_S
        finally:
            await up.broker.start()


async def test_an_open_stream_delays_the_stop_no_longer_than_the_drain(up: Stack, client: Clients, pool: Blobs) -> None:
    trainer = up.services["trainer"]
    await start(client, "watched", by_hand(pool))
    async with brought_back(trainer):
        watching = client.trainer.WatchRun(WatchRunRequest(run_id="watched"), wait_for_ready=True)
        await watching.read()
        assert await ask_to_stop(trainer, signal.SIGINT) < DRAIN_S + AT_ONCE_S
        watching.cancel()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_callers_of_a_service_that_goes_find_it_unavailable(
    up: Stack, calm: GetRunResponse, number: signal.Signals
) -> None:
    """Clients with gRPC's defaults, which call all the time, one half for streams."""
    trainer, statuses, answered = up.services["trainer"], Counter[str](), asyncio.Event()

    async def call_until_it_fails(stub: TrainerServiceAsyncStub, streams: bool) -> None:
        status = "OK"
        while status == "OK":
            try:
                if streams:
                    _ = [part async for part in stub.ListLabels(ListLabelsRequest(run_id="calm"))]
                else:
                    await stub.GetRun(GetRunRequest(run_id="calm"))
            except grpc.aio.AioRpcError as error:
                status = error.code().name
            statuses[status] += 1
            if statuses["OK"] >= ANSWERS_BEFORE:
                answered.set()

    async with brought_back(trainer), grpc.aio.insecure_channel(f"{HOST}:{trainer.port}") as channel:
        stub = TrainerServiceStub(channel)
        callers = [asyncio.create_task(call_until_it_fails(stub, number % 2 == 0)) for number in range(CALLERS)]
        async with asyncio.timeout(PATIENCE_S):
            await answered.wait()
            assert trainer.process is not None
            trainer.process.send_signal(number)
            await trainer.process.wait()
            await asyncio.gather(*callers)
    assert statuses.keys() == {"OK", "UNAVAILABLE"}


async def test_a_second_stop_signal_changes_nothing(up: Stack, client: Clients, pool: Blobs) -> None:
    trainer = up.services["trainer"]
    await start(client, "twice", by_hand(pool))
    async with brought_back(trainer):
        watching = client.trainer.WatchRun(WatchRunRequest(run_id="twice"), wait_for_ready=True)
        await watching.read()
        assert trainer.process is not None
        trainer.process.terminate()
        await closes(trainer)  # it drains: the stream is still open
        assert await ask_to_stop(trainer) < DRAIN_S + AT_ONCE_S
        watching.cancel()


async def stop_with_in_hand(
    up: Stack, service: Service, call: Callable[[], Awaitable[T]], behind: Callable[[], Awaitable[object]]
) -> T:
    """Stop the service while ``call`` waits for the broker; return the answer to the call.

    ``behind`` is a call that needs no broker and follows the first on its connection: once it is answered, the service
    has received the first.
    """
    async with brought_back(service):
        os.kill(process_id(up, "broker"), signal.SIGSTOP)
        try:
            calling = asyncio.ensure_future(call())
            await asyncio.sleep(0)  # let it be sent
            await behind()
            assert service.process is not None
            service.process.terminate()
            await closes(service)
        finally:
            os.kill(process_id(up, "broker"), signal.SIGCONT)
        taken = await leaves(service)
    answer = await calling
    assert taken < AT_ONCE_S
    return answer


async def test_a_submission_in_progress_at_a_stop_is_recorded_and_answered(
    up: Stack, client: Clients, pool: Blobs
) -> None:
    await start(client, "by-hand", by_hand(pool))
    waiting: list[OpenSample] = []

    async def asked() -> bool:
        waiting[:] = await waiting_samples(client, "by-hand")
        return bool(waiting)

    await until(asked)
    labels = [SubmittedLabel(sample_id=sample.sample_id, label=0) for sample in waiting]
    request = SubmitLabelsRequest(run_id="by-hand", labels=labels)

    async def submit() -> SubmitLabelsResponse:
        return await client.oracle.SubmitLabels(request)

    answer = await stop_with_in_hand(up, up.services["oracle"], submit, asked)
    assert answer.recorded == len(labels)
    again = await client.oracle.SubmitLabels(request, wait_for_ready=True)
    assert again.repeated_count == len(labels)


async def test_a_cancellation_in_progress_at_a_stop_is_recorded_and_answered(
    up: Stack, client: Clients, pool: Blobs
) -> None:
    await start(client, "given-up", by_hand(pool))
    await reach_event(up, "labelloop.v1.given-up.0.labels_requested")

    async def cancel() -> CancelRunResponse:
        return await client.trainer.CancelRun(CancelRunRequest(run_id="given-up"))

    async def list_runs() -> object:
        return await client.trainer.ListRuns(ListRunsRequest())

    answer = await stop_with_in_hand(up, up.services["trainer"], cancel, list_runs)
    assert answer.run.phase == Phase.PHASE_CANCELLED
    standing = await client.trainer.GetRun(GetRunRequest(run_id="given-up"), wait_for_ready=True)
    assert standing.run.phase == Phase.PHASE_CANCELLED


def write_slow_pool(folder: Path) -> RunSpec:
    """Write a pool of one batch that takes most of a minute to fit: its rotation has cubic cost."""
    rng = np.random.default_rng(7)
    samples, labels = rng.normal(size=(SLOW_LABELS, SLOW_VALUES)), np.arange(SLOW_LABELS, dtype=np.int32) % 10
    paths = Blobs(folder / "faint.npy", folder / "faint_labels.npy", Path(), Path())
    np.save(paths.samples, samples.astype(np.float32))
    np.save(paths.labels, labels)
    made = spec(
        paths, batch_size=SLOW_LABELS, label_budget=SLOW_LABELS, auto_label_budget=0, protocol=Protocol.PROTOCOL_HONEST
    )
    made.dataset.evaluation = made.dataset.evaluation_labels = ""
    made.stopping_sample_count = 0
    return made


async def reach_the_fit(up: Stack, client: Clients, run_id: str) -> str:
    """Return the pool's digest once the trainer has all labels and has fitted for a second without a result."""
    async with asyncio.timeout(PATIENCE_S):
        async for status in client.watch(run_id):
            if status.labels_paid == SLOW_LABELS:
                break
    with pytest.raises(TimeoutError):
        await reach_event(up, f"labelloop.v1.{run_id}.1.model_trained", within_s=1)
    return status.pool.pool_sha256


async def test_long_work_does_not_delay_the_exit(up: Stack, client: Clients, tmp_path: Path) -> None:
    """A fit in the trainer and a clustering in the scorer: each would take most of a minute."""
    trainer, scorer = up.services["trainer"], up.services["scorer"]
    await start(client, "long", write_slow_pool(tmp_path))
    digest = await reach_the_fit(up, client, "long")
    clustering = client.scorer.ClusterPool(ClusterPoolRequest(pool_sha256=digest, cluster_count=SLOW_CLUSTERS))
    done, _ = await asyncio.wait({asyncio.ensure_future(clustering.code())}, timeout=1)
    assert not done
    async with brought_back(scorer, trainer):
        taken = await asyncio.gather(ask_to_stop(trainer), ask_to_stop(scorer), return_exceptions=True)
    await client.trainer.CancelRun(CancelRunRequest(run_id="long"), wait_for_ready=True)
    assert [outcome for outcome in taken if isinstance(outcome, BaseException)] == []
