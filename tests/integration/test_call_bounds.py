"""Of every method that computes or reads much, a few calls are served, some wait, and the others are refused.

The bounds are those of the services; the handlers here wait until they are let go.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from labelloop.errors import LimitExceeded, from_rpc
from labelloop.oracle.v1.oracle_pb2_grpc import add_OracleServiceServicer_to_server
from labelloop.rpc.admission import Bound, CallBounds, Turns
from labelloop.rpc.call_metrics import CallCounts
from labelloop.rpc.handlers import guarded
from labelloop.scorer.v1.scorer_pb2_grpc import add_ScorerServiceServicer_to_server
from labelloop.trainer.v1.trainer_pb2_grpc import add_TrainerServiceServicer_to_server

from oracle_svc.call_bounds import CALL_BOUNDS as ORACLE
from scorer_svc.call_bounds import CALL_BOUNDS as SCORER
from tests.e2e.rpcs import Rpc, all_rpcs
from tests.patience import PATIENCE_S
from trainer_svc.call_bounds import CALL_BOUNDS as TRAINER

BOUNDS = {"trainer": TRAINER, "scorer": SCORER, "oracle": ORACLE}
ADD = {
    "trainer": add_TrainerServiceServicer_to_server,
    "scorer": add_ScorerServiceServicer_to_server,
    "oracle": add_OracleServiceServicer_to_server,
}
RPCS = {rpc.name: rpc for rpc in all_rpcs()}
BOUND = {method: bound for bounds in BOUNDS.values() for bound in bounds.bounds for method in bound.methods}
ROOT = Path(__file__).parents[2]


class Servicer:
    """Serve each method of a service by waiting to be let go; ``serving`` calls are in a handler."""

    def __init__(self, methods: dict[str, MethodDescriptor]) -> None:
        self._methods = methods
        self.let_go = asyncio.Event()
        self.serving = 0
        self.changed = asyncio.Condition()

    def __getattr__(self, name: str) -> Any:
        method = self._methods[name]
        return self._stream(method) if method.server_streaming else self._unary(method)

    @asynccontextmanager
    async def _served(self) -> AsyncIterator[None]:
        await self._count(1)
        try:
            await self.let_go.wait()
            yield
        finally:
            await self._count(-1)

    async def _count(self, more: int) -> None:
        self.serving += more
        async with self.changed:
            self.changed.notify_all()

    async def until_serving(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE_S), self.changed:
            await self.changed.wait_for(lambda: self.serving == count)

    def _unary(self, method: MethodDescriptor) -> Any:
        async def call(request: Any, context: Any) -> Any:
            async with self._served():
                return GetMessageClass(method.output_type)()

        return call

    def _stream(self, method: MethodDescriptor) -> Any:
        async def call(request: Any, context: Any) -> AsyncIterator[Any]:
            async with self._served():
                yield GetMessageClass(method.output_type)()

        return call


class Caller:
    def __init__(self, channel: grpc.aio.Channel, rpc: Rpc) -> None:
        method = rpc.method
        self._streams = method.client_streaming, method.server_streaming
        kind = {
            (False, False): channel.unary_unary,
            (False, True): channel.unary_stream,
            (True, False): channel.stream_unary,
            (True, True): channel.stream_stream,
        }[self._streams]
        self._call: Any = kind(rpc.path, request_serializer=None, response_deserializer=None)

    def call(self) -> asyncio.Task[None]:
        return asyncio.create_task(self._answered())

    async def _answered(self) -> None:
        call = self._call(iter([b""]) if self._streams[0] else b"")
        try:
            if not self._streams[1]:
                await call
                return
            async for _ in call:
                pass
        except asyncio.CancelledError:
            call.cancel()
            raise


@asynccontextmanager
async def served(name: str) -> AsyncIterator[tuple[Servicer, Caller]]:
    """Serve the service that has the method ``name``; yield its servicer and a caller of the method."""
    rpc = RPCS[name]
    server, servicer = grpc.aio.server(), Servicer({each.name: each for each in rpc.method.containing_service.methods})
    ADD[rpc.service](servicer, guarded(server, CallCounts(), bounds=BOUNDS[rpc.service]))  # type: ignore[operator]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield servicer, Caller(channel, rpc)
    finally:
        await server.stop(None)


async def refusal(call: asyncio.Task[None]) -> LimitExceeded:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async with asyncio.timeout(PATIENCE_S):
            await call
    error = from_rpc(caught.value)
    assert isinstance(error, LimitExceeded)
    return error


@pytest.mark.parametrize("name", BOUND)
async def test_calls_beyond_the_bound_are_refused_and_all_others_answered(name: str) -> None:
    bound = BOUND[name]
    async with served(name) as (servicer, caller):
        first = [caller.call() for _ in range(bound.at_once)]
        await servicer.until_serving(bound.at_once)
        later = [caller.call() for _ in range(bound.waiting + 3)]
        done, waiting = await asyncio.wait(later, return_when=asyncio.FIRST_COMPLETED, timeout=PATIENCE_S)
        while len(done) < 3:
            more, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED, timeout=PATIENCE_S)
            done |= more
        assert len(waiting) == bound.waiting
        assert servicer.serving == bound.at_once
        for call in done:
            error = await refusal(call)
            assert (error.reason, error.retry_after_s > 0) == ("TOO_MANY_CALLS", True)
            assert "try again in a moment" in error.message
        servicer.let_go.set()
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*first, *waiting)
        assert servicer.serving == 0


@pytest.mark.parametrize("name", BOUND)
async def test_a_caller_that_leaves_makes_room_for_the_next(name: str) -> None:
    bound = BOUND[name]
    async with served(name) as (servicer, caller):
        for _ in range(3):
            leaving = [caller.call() for _ in range(bound.at_once)]
            await servicer.until_serving(bound.at_once)
            for call in leaving:
                call.cancel()
            await servicer.until_serving(0)
        staying = caller.call()
        await servicer.until_serving(1)
        servicer.let_go.set()
        await staying


async def test_a_waiting_caller_that_leaves_makes_room_for_another_to_wait() -> None:
    turns = Turns("Rank", Bound(["Rank"], at_once=1, waiting=1, where=""))

    async def take() -> None:
        async with turns.turn():
            pass

    async with turns.turn():
        waiting = asyncio.create_task(take())
        await asyncio.sleep(0)
        with pytest.raises(LimitExceeded, match="1 calls are being served and 1 wait already"):
            await take()
        waiting.cancel()
        await asyncio.wait([waiting])
        later = asyncio.create_task(take())
        await asyncio.sleep(0)
    await later


@pytest.mark.parametrize("service", BOUNDS)
def test_each_method_has_a_bound_or_a_reason_for_none(service: str) -> None:
    bounds: CallBounds = BOUNDS[service]
    told = [method for bound in bounds.bounds for method in bound.methods] + list(bounds.unbounded)
    assert sorted(told) == sorted(rpc.name for rpc in RPCS.values() if rpc.service == service)
    assert all(bounds.unbounded.values())


@pytest.mark.parametrize("service", BOUNDS)
def test_the_readme_lists_all_bounds(service: str) -> None:
    rows = list(BOUNDS[service].table())
    lines = (ROOT / f"{service}_svc" / "README.md").read_text().splitlines()
    assert rows == [line for line in lines if line in set(rows)], "\n".join(rows)
