"""A run after a restart of all processes, and a model that does not match its digest."""

from __future__ import annotations

import asyncio
from pathlib import Path

from labelloop.eventlog.connection import connect as connect_broker
from labelloop.eventlog.log import EventLog
from labelloop.eventlog.subjects import ARTIFACT_BUCKET
from labelloop.events.v1.events_pb2 import RunSpec
from labelloop.trainer.v1.trainer_pb2 import Phase
from labelloop_cli.clients import connect
from labelloop_cli.local.stack import Stack, running
from nats.aio.client import Client

from tests.blobs import Blobs, spec
from tests.e2e.driving import finish, reach_round, start
from tests.patience import PATIENCE_S

ROUNDS = 120


def long_spec(blobs: Blobs) -> RunSpec:
    """Return a spec of many rounds: two labels in each, then two auto-labels."""
    return spec(blobs, batch_size=2, label_budget=ROUNDS, auto_label_batch_size=2, auto_label_budget=ROUNDS)


def process_id(stack: Stack, victim: str) -> int:
    if victim == "broker":
        assert stack.broker is not None
        return stack.broker.pid
    process = stack.services[victim].process
    assert process is not None
    return process.pid


async def check_log(stack: Stack, run_id: str) -> None:
    """Check that requested samples are distinct, with one label each."""
    client: Client = await connect_broker(stack.nats_url, "test")
    try:
        log = EventLog(client)
        asked: list[int] = []
        labelled: list[int] = []
        last = await log.last_sequence()
        async for recorded in log.follow():
            event = recorded.event
            if event is not None and event.run_id == run_id:
                asked += event.labels_requested.sample_ids
                labelled += [event.label_provided.sample_id] if event.HasField("label_provided") else []
            if recorded.sequence == last:
                break
    finally:
        await client.close()
    assert len(set(asked)) == len(asked)
    assert sorted(labelled) == sorted(asked)


async def test_a_run_resumes_after_a_restart_of_all_processes(tmp_path: Path, nats_binary: Path, blobs: Blobs) -> None:
    store = tmp_path / "kept"
    async with running(store) as stack, connect(stack.endpoints) as clients:
        await start(clients, "long", long_spec(blobs))
        assert (await reach_round(clients, "long", ROUNDS // 3)).phase < Phase.PHASE_FINISHED
    async with running(store) as stack, connect(stack.endpoints) as clients:
        resumed = await finish(clients, "long")
        await start(clients, "calm", long_spec(blobs))
        calm = await finish(clients, "calm")
        assert resumed.run.latest.model_sha256 == calm.run.latest.model_sha256
        await check_log(stack, "long")


async def test_a_corrupt_model_is_reported_and_never_used(stack: Stack, blobs: Blobs) -> None:
    async with connect(stack.endpoints) as clients:
        await start(clients, "parent", spec(blobs, auto_label_budget=0))
        digest = (await finish(clients, "parent")).run.latest.model_sha256
        broker = await connect_broker(stack.nats_url, "test")
        try:
            js, subject = broker.jetstream(), f"$O.{ARTIFACT_BUCKET}.C.{digest}"
            await js.purge_stream(f"OBJ_{ARTIFACT_BUCKET}", subject=subject)  # behind the model it would be passed over
            await js.publish(subject, b"not the model")
        finally:
            await broker.close()
        process = stack.services["scorer"].process
        assert process is not None

        async def use_it() -> str:
            await start(clients, "child", spec(blobs, label_budget=0), continues="parent")
            async with asyncio.timeout(PATIENCE_S):
                async for status in clients.watch("child"):
                    if status.message:
                        return status.message
            raise AssertionError("the run went on with a corrupt model")

        process.kill()  # it holds the good model in memory
        assert "other bytes" in await stack.while_up(use_it())
