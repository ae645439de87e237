"""Scorers behind a name are rolled and scaled under calls. All times are a tenth of those in a cluster."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from labelloop.artifacts.opening import open_store
from labelloop.eventlog.connection import connect as connect_broker
from labelloop.eventlog.log import EventLog
from labelloop.scorer.v1.scorer_pb2 import ScoreRequest, ScoreStreamRequest
from labelloop.scorer.v1.scorer_pb2_grpc import ScorerServiceStub
from labelloop_cli.local.nats.server import NatsServer
from labelloop_cli.local.stack import Service

from tests.integration.watched import samples, service, value
from tests.name_server import CachedName, name_server
from tests.patience import PATIENCE_S
from tests.ports import free_port
from trainer_svc.model.onnx_export import to_onnx

FEATURES, CLASSES = 16, 4
LOOK_UP_S, CACHED_S, AGE_S, PAUSE_S = 3.0, 3.0, 6.0, 7.0  # in a cluster 30, 30, 60 and 70
ROLLS = int(os.environ.get("LABELLOOP_SCORER_ROLLS", "2"))
CALLERS = 4
POLICIES = {"gRPC's own": "pick_first", "spread": "round_robin"}


class Scorers:
    """Scorers on one port of different addresses; ``known`` are those that the name stands for."""

    def __init__(self, folder: Path, nats_url: str, stack: AsyncExitStack) -> None:
        self._folder, self._nats_url, self._stack = folder, nats_url, stack
        self._numbers = count(2)
        self.port = free_port()
        self.running: dict[str, Service] = {}

    async def start(self) -> str:
        """Start one more, and return its address once it answers."""
        address = f"127.0.1.{next(self._numbers)}"
        folder = self._folder / address
        folder.mkdir()
        environment = {
            "LABELLOOP_NATS_URL": self._nats_url,
            "LABELLOOP_HOST": address,
            "LABELLOOP_CACHE_DIR": str(self._folder / "cache"),
            "LABELLOOP_CONNECTION_AGE_S": str(AGE_S),
        }
        made = service("scorer", folder, environment)
        made.port = self.port
        self._stack.push_async_callback(made.stop)
        await made.start()
        self.running[address] = made
        return address

    async def stop(self, address: str) -> None:
        await self.running.pop(address).stop()

    def calls(self) -> dict[str, float]:
        """Return how many calls each scorer has answered."""
        answered = {}
        for address, scorer in self.running.items():
            found = [each for each in samples(scorer) if each.labels.get("method") == "Score"]
            name = "labelloop_grpc_calls_total"
            answered[address] = value(found, name, code="OK") if any(s.name == name for s in found) else 0.0
        return answered


class Caller:
    """Calls without pause, with gRPC's settings but for the policy and the time between two look-ups."""

    def __init__(self, name: CachedName, port: int, policy: str, request: ScoreRequest) -> None:
        self.answered, self.failed = 0, [""] * 0
        config = json.dumps({"loadBalancingConfig": [{policy: {}}]})
        options = [("grpc.service_config", config), ("grpc.dns_min_time_between_resolutions_ms", int(LOOK_UP_S * 1e3))]
        self._channel = grpc.aio.insecure_channel(f"dns://127.0.0.1:{name.port}/scorer.test:{port}", options)
        self.stub: Any = ScorerServiceStub(self._channel)
        self._request = request

    async def call(self) -> None:
        while True:
            try:
                await self.stub.Score(self._request, timeout=PATIENCE_S)
                self.answered += 1
            except grpc.aio.AioRpcError as error:
                self.failed.append(f"{error.code().name}: {error.details()}")
            await asyncio.sleep(0.01)

    async def close(self) -> None:
        await self._channel.close()


@pytest.fixture
async def scorers(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Scorers]:
    async with AsyncExitStack() as stack:
        made = Scorers(tmp_path, nats_server.url, stack)
        await asyncio.gather(*(made.start() for _ in range(3)))
        yield made


@pytest.fixture
async def request_(nats_server: NatsServer) -> ScoreRequest:
    client = await connect_broker(nats_server.url, "test")
    await EventLog(client).ensure_stream()
    weights = np.random.default_rng(5).normal(0, 1, (CLASSES, FEATURES + 1)).astype(np.float32)
    model = await open_store("jetstream:", client).put(to_onnx(weights, "uint8"))
    await client.close()
    return ScoreRequest(model_sha256=model, dtype="uint8", images=bytes(range(FEATURES)))


@asynccontextmanager
async def calling(name: CachedName, scorers: Scorers, policy: str, request: ScoreRequest) -> AsyncIterator[Caller]:
    caller = Caller(name, scorers.port, policy, request)
    tasks = [asyncio.create_task(caller.call()) for _ in range(CALLERS)]
    try:
        await answers(caller, 100)
        yield caller
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await caller.close()


async def answers(caller: Caller, more: int) -> None:
    """Return once so many more calls were answered."""
    until = caller.answered + more
    async with asyncio.timeout(PATIENCE_S):
        while caller.answered < until:  # noqa: ASYNC110  # there is no event to wait for
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("policy", POLICIES)
async def test_no_call_fails_while_scorers_are_rolled(scorers: Scorers, request_: ScoreRequest, policy: str) -> None:
    """As a Deployment does: one new scorer, then one old one leaves the name, and ends after a pause."""
    with name_server(list(scorers.running), CACHED_S) as name:
        async with calling(name, scorers, POLICIES[policy], request_) as caller:
            for _ in range(ROLLS):
                ending = []
                for old in list(name.addresses):
                    new = await scorers.start()
                    name.addresses = [address for address in name.addresses if address != old] + [new]
                    ending.append(asyncio.create_task(end(scorers, old)))
                await asyncio.gather(*ending)
            await answers(caller, 100)
        assert caller.failed == []
        assert sum(scorers.calls().values()) >= 100


async def end(scorers: Scorers, address: str) -> None:
    await asyncio.sleep(PAUSE_S)  # the preStop hook
    await scorers.stop(address)


async def test_scorers_that_are_added_get_their_share_of_calls(scorers: Scorers, request_: ScoreRequest) -> None:
    with name_server(list(scorers.running), CACHED_S) as name:
        async with calling(name, scorers, "round_robin", request_) as caller:
            old = scorers.calls()
            assert all(old.values())
            name.addresses += await asyncio.gather(scorers.start(), scorers.start())
            await asyncio.sleep(AGE_S * 1.1 + LOOK_UP_S + CACHED_S)
            before = scorers.calls()
            await answers(caller, 500)
            gained = {address: calls - before[address] for address, calls in scorers.calls().items()}
        assert caller.failed == []
        assert len(gained) == 5
        assert min(gained.values()) > 0.5 * max(gained.values())


async def test_a_stream_outlives_its_connection(scorers: Scorers, request_: ScoreRequest) -> None:
    with name_server(list(scorers.running), CACHED_S) as name:
        async with calling(name, scorers, "pick_first", request_) as caller:
            stream = caller.stub.ScoreStream()
            for _ in range(round(2.5 * AGE_S)):
                await stream.write(ScoreStreamRequest(score=request_))
                answer = await stream.read()
                assert answer.score.model_sha256 == request_.model_sha256
                await asyncio.sleep(1)
            await stream.done_writing()
            assert await stream.code() == grpc.StatusCode.OK
        assert caller.failed == []
