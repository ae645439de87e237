"""Calls to a server that stops end as OK or UNAVAILABLE, never as CANCELLED, which no client retries by itself."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from labelloop.errors import Unready, from_rpc
from labelloop.rpc.server import Server
from labelloop.rpc.statuses import is_away
from labelloop.scorer.v1 import scorer_pb2 as pb
from labelloop.scorer.v1.scorer_pb2_grpc import (
    ScorerServiceServicer,
    ScorerServiceStub,
    add_ScorerServiceServicer_to_server,
)
from labelloop.settings import ServiceSettings
from labelloop.trainer.v1 import trainer_pb2
from labelloop.trainer.v1.trainer_pb2_grpc import TrainerServiceServicer, add_TrainerServiceServicer_to_server
from labelloop_cli.clients import Endpoints, connect

from tests.patience import PATIENCE_S

DRAIN_S = 0.2
CALLERS, CHANNELS, ANSWERS_BEFORE = 32, 4, 200

Call = Callable[[Any], Awaitable[object]]
CallOfKind = Callable[[Any, str], Coroutine[Any, Any, object]]


class Scorer(ScorerServiceServicer):
    def __init__(self) -> None:
        self.answered, self.waiting = 0, asyncio.Event()
        self.shared: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def Score(self, request: pb.ScoreRequest, context: Any) -> pb.ScoreResponse:  # noqa: N802
        if request.run_id == "waits":
            self.waiting.set()
            await self.shared
        self.answered += 1
        return pb.ScoreResponse()

    async def RankPoolStream(  # noqa: N802
        self, request: pb.RankPoolStreamRequest, context: Any
    ) -> AsyncIterator[pb.RankPoolStreamResponse]:
        yield pb.RankPoolStreamResponse()
        if request.ranking.pool_sha256 == "waits":
            self.waiting.set()
            await self.shared
        self.answered += 1
        yield pb.RankPoolStreamResponse()


def scorer_alone() -> Scorer:
    return Scorer()  # type: ignore[abstract]  # the other RPCs are not called


@asynccontextmanager
async def serving(scorer: Scorer) -> AsyncIterator[Server]:
    server = Server(ServiceSettings(drain_s=DRAIN_S), "labelloop.scorer.v1.ScorerService")
    add_ScorerServiceServicer_to_server(scorer, server.grpc)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def score(stub: Any, run_id: str = "") -> object:
    return await stub.Score(pb.ScoreRequest(run_id=run_id))


async def rank(stub: Any, pool: str = "") -> object:
    request = pb.RankPoolStreamRequest(ranking=pb.RankPoolRequest(pool_sha256=pool))
    return [part async for part in stub.RankPoolStream(request)]


async def status_of(call: Awaitable[object]) -> str:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return "OK"


async def call_until_it_is_gone(call: Call, stub: Any, statuses: Counter[str]) -> None:
    """Call without a pause until a call fails."""
    status = "OK"
    while status == "OK":
        status = await status_of(call(stub))
        statuses[status] += 1


@pytest.mark.parametrize("call", [score, rank])
async def test_callers_of_a_server_that_stops_are_answered_or_find_it_gone(call: Call) -> None:
    scorer, statuses = scorer_alone(), Counter[str]()
    async with serving(scorer) as server, asyncio.timeout(PATIENCE_S):
        own = [("grpc.use_local_subchannel_pool", 1)]  # connections of their own
        channels = [grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", options=own) for _ in range(CHANNELS)]
        stubs = [ScorerServiceStub(channels[number % CHANNELS]) for number in range(CALLERS)]
        callers = [asyncio.create_task(call_until_it_is_gone(call, stub, statuses)) for stub in stubs]
        while scorer.answered < ANSWERS_BEFORE:  # noqa: ASYNC110 - the load is what is waited for
            await asyncio.sleep(0.001)
        await server.stop()
        await asyncio.gather(*callers)
        await asyncio.gather(*(channel.close() for channel in channels))
    assert statuses == {"OK": scorer.answered, "UNAVAILABLE": CALLERS}


@pytest.mark.parametrize("call", [score, rank])
async def test_a_call_that_outlasts_the_drain_is_unavailable(call: CallOfKind) -> None:
    scorer = scorer_alone()
    async with (
        serving(scorer) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
        asyncio.timeout(PATIENCE_S),
    ):
        calling = asyncio.create_task(status_of(call(ScorerServiceStub(channel), "waits")))
        await scorer.waiting.wait()
        await server.stop()
        assert await calling == "UNAVAILABLE"


@pytest.mark.parametrize("call", [score, rank])
async def test_a_call_whose_work_was_stopped_is_unavailable(call: CallOfKind) -> None:
    scorer = scorer_alone()
    async with (
        serving(scorer) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
        asyncio.timeout(PATIENCE_S),
    ):
        calling = asyncio.create_task(call(ScorerServiceStub(channel), "waits"))
        await scorer.waiting.wait()
        scorer.shared.cancel()
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await calling
    ours = from_rpc(raised.value)
    assert isinstance(ours, Unready)
    assert ours.reason == "WORK_STOPPED"
    assert ours.retry_after_s > 0


async def test_a_server_without_calls_stops_well_before_the_drain_ends() -> None:
    async with serving(scorer_alone()) as server, asyncio.timeout(DRAIN_S):
        await server.stop()


class Cancelling(TrainerServiceServicer):
    """Ends its first calls as a server of gRPC does that stops, or is overloaded."""

    def __init__(self) -> None:
        self.left = 3

    async def _fail(self, context: Any) -> None:
        if self.left:
            self.left -= 1
            await context.abort(grpc.StatusCode.CANCELLED, "")

    async def GetRun(self, request: Any, context: Any) -> trainer_pb2.GetRunResponse:  # noqa: N802
        await self._fail(context)
        return trainer_pb2.GetRunResponse(run=trainer_pb2.RunStatus(run_id="r"))

    async def CancelRun(self, request: Any, context: Any) -> trainer_pb2.CancelRunResponse:  # noqa: N802
        await self._fail(context)
        return trainer_pb2.CancelRunResponse()

    async def ListLabels(self, request: Any, context: Any) -> AsyncIterator[trainer_pb2.ListLabelsResponse]:  # noqa: N802
        await self._fail(context)
        yield trainer_pb2.ListLabelsResponse(labels=[trainer_pb2.LabelRecord(sample_id=1)])

    async def WatchRun(self, request: Any, context: Any) -> AsyncIterator[trainer_pb2.WatchRunResponse]:  # noqa: N802
        await self._fail(context)
        yield trainer_pb2.WatchRunResponse(run=trainer_pb2.RunStatus(run_id="r"))


@pytest.fixture
async def trainer() -> AsyncIterator[Endpoints]:
    server = grpc.aio.server()
    add_TrainerServiceServicer_to_server(Cancelling(), server)  # type: ignore[abstract]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield Endpoints(trainer=f"127.0.0.1:{port}")
    await server.stop(None)


async def test_commands_repeat_calls_that_a_server_cancelled(trainer: Endpoints) -> None:
    async with connect(trainer) as clients, asyncio.timeout(PATIENCE_S):
        assert (await clients.trainer.GetRun(trainer_pb2.GetRunRequest(run_id="r"))).run.run_id == "r"


async def test_commands_repeat_streams_that_a_server_cancelled(trainer: Endpoints) -> None:
    async with connect(trainer) as clients, asyncio.timeout(PATIENCE_S):
        assert [label.sample_id for label in await clients.labels("r")] == [1]


async def test_watching_a_run_outlives_a_stream_that_a_server_cancelled(trainer: Endpoints) -> None:
    async with connect(trainer) as clients, asyncio.timeout(PATIENCE_S):
        assert [status.run_id async for status in clients.watch("r")] == ["r"]


async def test_a_command_reports_a_call_that_a_server_cancelled_as_a_service_away(trainer: Endpoints) -> None:
    with pytest.raises(Unready, match="a service does not answer"):
        async with connect(trainer) as clients:
            await clients.trainer.CancelRun(trainer_pb2.CancelRunRequest(run_id="r"))


@pytest.mark.parametrize("code", grpc.StatusCode)
def test_only_unavailable_and_cancelled_mean_that_a_server_is_away(code: grpc.StatusCode) -> None:
    error = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details="")
    assert is_away(error) == (code.name in {"UNAVAILABLE", "CANCELLED"})
