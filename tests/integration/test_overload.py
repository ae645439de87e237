"""Small calls beyond what may wait are refused with an error that says so, by a real server."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import grpc
import pytest
from labelloop.errors import LimitExceeded, from_rpc
from labelloop.rpc.overload import WAITING_MAX, Overload
from labelloop.rpc.server import SHORTCUT_PENDING_CALLS, Server
from labelloop.scorer.v1 import scorer_pb2 as pb
from labelloop.scorer.v1.scorer_pb2_grpc import ScorerServiceStub, add_ScorerServiceServicer_to_server
from labelloop.settings import ServiceSettings

from tests.integration.test_call_metrics import Scorer
from tests.patience import PATIENCE_S

CHANNELS, CALLS = 16, 150


async def test_of_thousands_of_calls_at_once_those_beyond_the_limit_are_refused_and_none_cancelled() -> None:
    server = Server(ServiceSettings(port=0), "labelloop.scorer.v1.ScorerService", pending_calls=SHORTCUT_PENDING_CALLS)
    shortcuts = {"Score": lambda request, context: b""}
    add_ScorerServiceServicer_to_server(Scorer(), server.with_shortcuts(shortcuts))
    await server.start()
    own = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", options=own) for _ in range(CHANNELS)]
    ends: Counter[str] = Counter()
    refusals: list[Any] = []

    async def call(channel: Any) -> None:
        try:
            await ScorerServiceStub(channel).Score(pb.ScoreRequest(images=bytes(784)))
        except grpc.aio.AioRpcError as error:
            refusals.append(from_rpc(error) or error)
            ends["refused"] += 1
        else:
            ends["OK"] += 1

    try:
        async with asyncio.timeout(PATIENCE_S):
            while not ends["refused"]:  # calls are counted once a second
                await asyncio.gather(*(call(channel) for channel in channels for _ in range(CALLS)))
            assert ends["OK"] > ends["refused"] / 2
            while True:
                before = ends["refused"]
                await call(channels[0])
                if ends["refused"] == before:
                    break
    finally:
        for channel in channels:
            await channel.close()
        await server.stop()
    kinds = {(type(each), getattr(each, "reason", str(each)), getattr(each, "retry_after_s", 0)) for each in refusals}
    assert kinds == {(LimitExceeded, "OVERLOADED", 0.1)}


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


async def flood(overload: Overload, clock: Clock, calls: int, every_s: float = 0.0) -> Counter[str]:
    ends: Counter[str] = Counter()
    for _ in range(calls):
        clock.now_s += every_s
        try:
            ends["held" if overload.arrive() else "goes on"] += 1
        except LimitExceeded:
            ends["refused"] += 1
    return ends


async def test_as_many_are_refused_as_were_held() -> None:
    clock = Clock()
    overload = Overload(now=clock)
    await flood(overload, clock, 255)
    clock.now_s = 2.0
    ends = await flood(overload, clock, 8 * WAITING_MAX)
    assert 0 < ends["refused"] <= ends["held"] + ends["goes on"]


async def test_nothing_is_refused_once_the_backlog_is_gone() -> None:
    clock = Clock()
    overload = Overload(now=clock)
    await flood(overload, clock, 255)
    clock.now_s = 2.0
    while not (await flood(overload, clock, 1))["refused"]:
        pass
    clock.now_s += 1.0
    assert not (await flood(overload, clock, 1))["refused"]


async def test_calls_that_come_slowly_are_never_held() -> None:
    clock = Clock()
    assert (await flood(Overload(now=clock), clock, 5_000, every_s=0.005)).keys() == {"goes on"}


@pytest.mark.parametrize("calls", [1, 40])
async def test_calls_that_are_held_while_they_are_counted_go_on_soon(calls: int) -> None:
    clock = Clock()
    overload = Overload(now=clock)
    await flood(overload, clock, 255)
    clock.now_s = 2.0
    held = [overload.arrive() for _ in range(calls)]
    async with asyncio.timeout(PATIENCE_S):
        for each in held:
            assert each
            await each.wait()
    assert overload.arrive() is None
