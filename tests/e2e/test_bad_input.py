"""Malformed and extreme requests to every rpc get an answer or one of labelloop's errors, in time.

Never INTERNAL or UNKNOWN; no process dies or takes much memory, and a refused request leaves the log as it was.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
import pytest_asyncio
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st
from labelloop.errors import Corrupt, InvalidInput, LimitExceeded, NotFound, WrongState, from_rpc
from labelloop.eventlog.connection import connect as connect_broker
from labelloop.eventlog.log import EventLog
from labelloop.events.v1.events_pb2 import LabelSource
from labelloop.oracle.v1 import oracle_pb2
from labelloop.rpc.server import MESSAGE_BYTES_MAX, REQUEST_BYTES_MAX
from labelloop.trainer.v1 import trainer_pb2
from labelloop_cli.clients import Clients, connect
from labelloop_cli.local.stack import Stack, running

from tests.blobs import Blobs, spec, write_blobs
from tests.e2e.driving import finish, start
from tests.e2e.good_requests import brief_spec, good_requests, half_import, likely_strings, open_samples
from tests.e2e.nasty import Likely, damaged, floods, mutations
from tests.e2e.odd_files import write_odd_files
from tests.e2e.rpcs import Caller, Rpc, all_rpcs, calling
from tests.e2e.unharmed import unharmed
from tests.examples import drawn

_GROWTH_MAX_BYTES = 512 * 1024**2
_REFUSALS = (InvalidInput, NotFound, WrongState, Corrupt, LimitExceeded)

pytestmark = pytest.mark.asyncio(loop_scope="module")
each_rpc = pytest.mark.parametrize("rpc", all_rpcs(), ids=lambda rpc: rpc.name)


@dataclass(frozen=True, repr=False)
class World:
    """Services with runs to ask about.

    Attributes:
        good: For each rpc a request that was accepted at the beginning.
        refused: Those that were not, by rpc, with the reason.
    """

    stack: Stack
    clients: Clients
    caller: Caller
    log: EventLog
    blobs: Blobs
    good: dict[str, Message]
    likely: Likely
    refused: dict[str, str]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory, nats_binary: Path) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("bad_input")
    blobs, odd = write_blobs(folder), write_odd_files(folder / "odd")
    async with (
        running(folder / "store") as stack,
        connect(stack.endpoints) as clients,
        calling(stack.endpoints) as caller,
    ):
        broker = await connect_broker(stack.nats_url, "test")
        try:
            await start(clients, "done", brief_spec(blobs, LabelSource.LABEL_SOURCE_DATASET))
            done = (await finish(clients, "done")).run
            for run_id in ("open", "spare"):
                await start(clients, run_id, brief_spec(blobs, LabelSource.LABEL_SOURCE_QUEUE))
            await start(clients, "tool", brief_spec(blobs, LabelSource.LABEL_SOURCE_QUEUE, tool="nats"))
            await open_samples(clients, "tool")
            await open_samples(clients, "spare")  # from here on nothing happens by itself
            [first, *_] = await open_samples(clients)
            await EventLog(broker).append_once(half_import(blobs))
            good = good_requests(blobs, done, first)
            refused = {name: why async for name, why in _refused(caller, good)}  # before damaged ones change the runs
            likely = likely_strings(blobs, odd, done)
            yield World(stack, clients, caller, EventLog(broker), blobs, good, likely, refused)
        finally:
            await broker.close()


async def _refused(caller: Caller, good: Mapping[str, Message]) -> AsyncIterator[tuple[str, str]]:
    """Make each request, and yield those that are refused, with the reason."""
    for rpc in all_rpcs():
        try:
            await caller.call(rpc, good[rpc.name].SerializeToString())
        except grpc.aio.AioRpcError as error:
            yield rpc.name, error.details() or ""


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def nothing_else_changes(world: World) -> AsyncIterator[None]:
    """Check that no process restarts, grows much or logs a fault, and only runs named by accepted calls change."""
    events = await _events_by_run(world.log)
    with unharmed(world.stack, _GROWTH_MAX_BYTES):
        yield
    after = await _events_by_run(world.log)
    changed = {run_id for run_id in after if after[run_id] != events[run_id]}
    assert changed <= world.caller.touched


async def _events_by_run(log: EventLog) -> Counter[str]:
    events: Counter[str] = Counter()
    last = await log.last_sequence()
    async for recorded in log.follow():
        assert recorded.event is not None
        events[recorded.event.run_id] += 1
        if recorded.sequence >= last:
            break
    return events


async def send(world: World, rpc: Rpc, data: bytes) -> None:
    """Make a call that may be refused only with one of our errors, or by gRPC if it is over the size limit."""
    try:
        await world.caller.call(rpc, data)
    except grpc.aio.AioRpcError as error:
        if len(data) <= REQUEST_BYTES_MAX or error.code() != grpc.StatusCode.RESOURCE_EXHAUSTED:
            _check_refusal(error)


def _check_refusal(refusal: grpc.aio.AioRpcError) -> None:
    ours = from_rpc(refusal)
    assert isinstance(ours, _REFUSALS), (refusal.code(), refusal.details())
    assert re.fullmatch("[A-Z][A-Z_]+", ours.reason)
    assert ours.message


async def test_the_good_request_of_each_rpc_is_accepted(world: World) -> None:
    assert {rpc.name for rpc in all_rpcs()} == world.good.keys()
    assert world.refused == {}


@each_rpc
@drawn(25)
@given(data=st.data())
async def test_damaged_requests_get_an_answer_or_a_clean_error(world: World, rpc: Rpc, data: st.DataObject) -> None:
    good = world.good[rpc.name].SerializeToString(deterministic=True)
    await send(world, rpc, data.draw(damaged(good)))


@each_rpc
@drawn(60)
@given(data=st.data())
async def test_odd_values_get_an_answer_or_a_clean_error(world: World, rpc: Rpc, data: st.DataObject) -> None:
    message = data.draw(mutations(world.good[rpc.name], world.likely))
    await send(world, rpc, message.SerializeToString())


@each_rpc
async def test_very_many_values_get_an_answer_or_a_clean_error(world: World, rpc: Rpc) -> None:
    for message in floods(world.good[rpc.name]):
        await send(world, rpc, message.SerializeToString())


@each_rpc
async def test_a_message_over_the_size_limit_is_refused(world: World, rpc: Rpc) -> None:
    assert await _too_large(world, rpc) == grpc.StatusCode.RESOURCE_EXHAUSTED


async def _too_large(world: World, rpc: Rpc) -> grpc.StatusCode:
    """Return the status of a message over the limit, sent again where its connection reached its age meanwhile."""
    for _ in range(3):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await world.caller.call(rpc, bytes(MESSAGE_BYTES_MAX + 1))
        if caught.value.code() != grpc.StatusCode.UNAVAILABLE:
            break
    return caught.value.code()


@pytest.mark.parametrize("field", ["name", "labels", "evaluation", "evaluation_labels"])
async def test_odd_dataset_files_get_an_answer_or_a_clean_error(world: World, field: str) -> None:
    [describe] = [rpc for rpc in all_rpcs() if rpc.name == "DescribeDataset"]
    for path in world.likely["name"]:
        request = oracle_pb2.DescribeDatasetRequest(dataset=world.blobs.source())
        setattr(request.dataset, field, path)
        await send(world, describe, request.SerializeToString())


async def refused_field(answer: Awaitable[Message]) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await answer
    _check_refusal(caught.value)
    ours = from_rpc(caught.value)
    assert ours is not None
    return ours.field


async def test_requests_too_large_for_an_event_are_refused_with_the_field(world: World) -> None:
    trainer, oracle, much = world.clients.trainer, world.clients.oracle, "x" * 2_000_000
    *_, last = await open_samples(world.clients)
    labels = [oracle_pb2.SubmittedLabel(sample_id=last, label=1)]
    submitted = oracle_pb2.SubmitLabelsRequest(run_id="open", annotator=much, labels=labels)
    assert await refused_field(oracle.SubmitLabels(submitted)) == "annotator"
    cancelled = trainer_pb2.CancelRunRequest(run_id="open", reason=much)
    assert await refused_field(trainer.CancelRun(cancelled)) == "reason"
    vast = spec(world.blobs)
    vast.dataset.classes[:] = ["a", "b", much]
    assert await refused_field(trainer.StartRun(trainer_pb2.StartRunRequest(spec=vast))) == "spec"


async def test_a_refusal_names_the_field_by_its_path_in_the_request(world: World) -> None:
    dataset = world.blobs.source()
    dataset.labels = "nowhere.npy"
    described = oracle_pb2.DescribeDatasetRequest(dataset=dataset)
    assert await refused_field(world.clients.oracle.DescribeDataset(described)) == "dataset.labels"
    started = trainer_pb2.StartRunRequest(spec=spec(world.blobs))
    started.spec.dataset.CopyFrom(dataset)
    assert await refused_field(world.clients.trainer.StartRun(started)) == "spec.dataset.labels"


async def test_a_run_with_an_extreme_but_accepted_spec_finishes(world: World) -> None:
    strange = spec(world.blobs, seed=2**64 - 1, start_scale=1e6, report_every=2**32 - 1, batch_size=10_000)
    await start(world.clients, "strange", strange)
    world.caller.touched.add("strange")
    end = (await finish(world.clients, "strange")).run
    assert end.phase == trainer_pb2.Phase.PHASE_FINISHED
