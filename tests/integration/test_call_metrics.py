"""A server counts its calls by method and by the status that callers get."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from labelloop.errors import LimitExceeded, NotFound
from labelloop.rpc.call_metrics import CallCounts
from labelloop.rpc.handlers import guarded
from labelloop.rpc.server import Context
from labelloop.scorer.v1 import scorer_pb2 as pb
from labelloop.scorer.v1.scorer_pb2_grpc import (
    ScorerServiceServicer,
    ScorerServiceStub,
    add_ScorerServiceServicer_to_server,
)

from tests.patience import PATIENCE_S

ENDS = ["OK", "NOT_FOUND", "RESOURCE_EXHAUSTED", "ABORTED", "UNKNOWN", "OK"]


class Scorer(ScorerServiceServicer):
    """End each call with the status that ``run_id`` names."""

    def __init__(self) -> None:
        self.waits = asyncio.Event()

    async def Score(self, request: pb.ScoreRequest, context: Context) -> pb.ScoreResponse:  # noqa: N802
        match request.run_id:
            case "NOT_FOUND":
                raise NotFound("NO_MODEL", "there is none")
            case "RESOURCE_EXHAUSTED":
                raise LimitExceeded("OVERLOADED", "too much to do")
            case "ABORTED":
                await context.abort(grpc.StatusCode.ABORTED, "so it is")
            case "UNKNOWN":
                raise ZeroDivisionError
            case "waits":
                self.waits.set()
                await asyncio.Event().wait()
        return pb.ScoreResponse()

    async def ScoreStream(  # noqa: N802
        self, requests: AsyncIterator[pb.ScoreStreamRequest], context: Context
    ) -> AsyncIterator[pb.ScoreStreamResponse]:
        async for request in requests:
            yield pb.ScoreStreamResponse(score=await self.Score(request.score, context))

    async def RankPool(self, request: pb.RankPoolRequest, context: Context) -> pb.RankPoolResponse:  # noqa: N802
        raise NotImplementedError

    async def RankPoolStream(  # noqa: N802
        self, request: pb.RankPoolStreamRequest, context: Context
    ) -> AsyncIterator[pb.RankPoolStreamResponse]:
        raise NotImplementedError
        yield

    async def FindFetchedShards(  # noqa: N802
        self, request: pb.FindFetchedShardsRequest, context: Context
    ) -> pb.FindFetchedShardsResponse:
        raise NotImplementedError

    async def GetSamples(self, request: pb.GetSamplesRequest, context: Context) -> pb.GetSamplesResponse:  # noqa: N802
        raise NotImplementedError

    async def LearnFeatures(  # noqa: N802
        self, request: pb.LearnFeaturesRequest, context: Context
    ) -> pb.LearnFeaturesResponse:
        raise NotImplementedError

    async def ExtractFeatures(  # noqa: N802
        self, request: pb.ExtractFeaturesRequest, context: Context
    ) -> pb.ExtractFeaturesResponse:
        raise NotImplementedError

    async def ClusterPool(  # noqa: N802
        self, request: pb.ClusterPoolRequest, context: Context
    ) -> pb.ClusterPoolResponse:
        raise NotImplementedError


@asynccontextmanager
async def served(scorer: Scorer, counts: CallCounts) -> AsyncIterator[Any]:
    server = grpc.aio.server()
    add_ScorerServiceServicer_to_server(scorer, guarded(server, counts))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield ScorerServiceStub(channel)
    finally:
        await server.stop(None)


async def status_of(call: Any) -> str:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return "OK"


async def last_of(stream: Any) -> None:
    async for _ in stream:
        pass


async def test_calls_are_counted_by_the_status_that_callers_get() -> None:
    counts = CallCounts()
    async with served(Scorer(), counts) as stub:
        seen = Counter([await status_of(stub.Score(pb.ScoreRequest(run_id=end))) for end in ENDS])
        streams: Counter[str] = Counter()
        for end in ENDS:
            requests = [pb.ScoreStreamRequest(score=pb.ScoreRequest(run_id=each)) for each in ("OK", end)]
            streams[await status_of(last_of(stub.ScoreStream(iter(requests))))] += 1
    assert seen == Counter(ENDS)
    assert counts.by_method() == {"Score": dict(sorted(seen.items())), "ScoreStream": dict(sorted(streams.items()))}


async def test_a_call_that_its_caller_cancels_is_counted_as_cancelled() -> None:
    counts, scorer = CallCounts(), Scorer()
    async with served(scorer, counts) as stub:
        call = stub.Score(pb.ScoreRequest(run_id="waits"))
        async with asyncio.timeout(PATIENCE_S):
            await scorer.waits.wait()
            call.cancel()
            while not counts.by_method():  # noqa: ASYNC110 - the server sets no event when it has counted
                await asyncio.sleep(0.001)
    assert counts.by_method() == {"Score": {"CANCELLED": 1}}
