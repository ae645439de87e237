"""Replicas report over a real broker what holds them up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest
from labelloop.domain.hold_ups import HoldUp
from labelloop.eventlog.connection import connect
from labelloop.eventlog.hold_up_reports import PREFIX, HoldUpReports
from labelloop.eventlog.projections import RunProjections
from labelloop_cli.local.nats.server import NatsServer
from nats.aio.client import Client

from tests.integration.one_oracle import until

STORE = HoldUp("oracle", "there is no bucket", 5.0, "r")
AWAY = HoldUp("oracle", "refused", 7.0, tool="webhook", direction="requests")


@dataclass
class Reporter:
    client: Client
    projections: RunProjections[Any]
    own: list[HoldUp] = field(default_factory=list)


@asynccontextmanager
async def reporter(broker: NatsServer, service: str, replica: str) -> AsyncIterator[Reporter]:
    client = await connect(broker.url, service)
    projections: RunProjections[Any] = RunProjections(lambda event, at: None)
    spec = SimpleNamespace(queue=SimpleNamespace(tool="webhook"))
    projections.runs["r"] = SimpleNamespace(run_id="r", over=False, spec=spec)
    made = Reporter(client, projections)
    reports = HoldUpReports(client, service, replica, lambda: made.own, projections.hold_ups, projections)
    task = asyncio.create_task(reports.exchange())
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.wait({task})
        await client.close()


async def test_every_service_and_replica_hears_what_holds_up_another_until_it_is_over(nats_server: NatsServer) -> None:
    async with (
        reporter(nats_server, "trainer", "t") as trainer,
        reporter(nats_server, "oracle", "a") as one,
        reporter(nats_server, "oracle", "b") as other,
    ):
        with trainer.projections.subscribe("r") as changed:
            one.own = [STORE, AWAY]
            for each in (trainer, other):
                hold_ups = each.projections.hold_ups
                await until(lambda: hold_ups.of_run("r", "webhook") == [STORE, AWAY])  # noqa: B023
            assert changed.is_set()
            assert other.projections.hold_ups.of_tools() == [AWAY]
            changed.clear()
            one.own = []
            await until(lambda: not trainer.projections.hold_ups.of_run("r", "webhook"))
            assert changed.is_set()


async def test_what_a_replica_that_died_had_reported_ends(nats_server: NatsServer) -> None:
    async with reporter(nats_server, "oracle", "a") as one, reporter(nats_server, "oracle", "b") as other:
        one.own = [AWAY]
        await until(lambda: other.projections.hold_ups.of_tools() == [AWAY])
        await one.client.close()
        await until(lambda: not other.projections.hold_ups.of_tools())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"replica": ""}',
        b'{"replica": "x", "hold_ups": [{"problem": "", "since": 1}]}',
        b'{"replica": "x", "hold_ups": [{"problem": "p", "since": 1e300, "run_id": "r"}]}',
        b'{"replica": "x", "hold_ups": [{"problem": "p", "since": NaN, "run_id": "r"}]}',
        b'{"replica": "x", "hold_ups": [%s]}' % b", ".join([b'{"problem": "p", "since": 1}'] * 300),
        b'{"replica": "x", "hold_ups": [{"problem": "%s", "since": 1, "run_id": "r"}]}' % (b"p" * 501),
    ],
)
async def test_what_is_no_report_is_ignored(nats_server: NatsServer, data: bytes) -> None:
    async with reporter(nats_server, "trainer", "t") as trainer, reporter(nats_server, "oracle", "a") as one:
        await one.client.publish(f"{PREFIX}.oracle", data)
        await one.client.publish(f"{PREFIX}.another", data.replace(b'""', b'"p"'))
        one.own = [replace(STORE, problem="heard")]
        await until(lambda: [each.problem for each in trainer.projections.hold_ups.of_run("r")] == ["heard"])
