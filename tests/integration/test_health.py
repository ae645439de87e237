"""Health probes in each phase of a service."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckResponse
from labelloop.errors import WrongState
from labelloop.rpc.health import LIVE, Probes
from labelloop.settings import ServiceSettings
from labelloop_cli.local.nats.server import NatsServer

from tests.integration.probing import health, watch
from tests.integration.production_broker import free_ports
from tests.patience import PATIENCE_S

SERVING, NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING
SCORER = "labelloop.scorer.v1.ScorerService"


async def test_probes_are_live_throughout_and_ready_until_draining(tmp_path: Path) -> None:
    probes = Probes(ServiceSettings(health_port=0), "a.Service")
    await probes.start()
    said = []
    for step in (None, probes.ready, probes.draining):
        if step:
            await step()
        said.append((await health(probes.port, LIVE), await health(probes.port, "a.Service")))
    assert said == [(SERVING, NOT_SERVING), (SERVING, SERVING), (SERVING, NOT_SERVING)]
    with pytest.raises(grpc.aio.AioRpcError, match="NOT_FOUND"):
        await health(probes.port, "another.Service")
    await probes.stop()


async def test_a_port_in_use_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(WrongState, match="LABELLOOP_HEALTH_PORT"):
            await Probes(ServiceSettings(health_port=taken.getsockname()[1]), "a.Service").start()


@pytest.fixture
async def scorer(tmp_path: Path) -> AsyncIterator[tuple[int, int]]:
    """Yield the health port of a scorer whose broker is down, and the broker's port."""
    health_port, broker_port = free_ports(2)
    ours = {
        "LABELLOOP_NATS_URL": f"nats://127.0.0.1:{broker_port}",
        "LABELLOOP_HEALTH_PORT": str(health_port),
        "LABELLOOP_PORT": "0",
        "LABELLOOP_CACHE_DIR": str(tmp_path / "cache"),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "scorer_svc", env={**os.environ, **ours}, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield health_port, broker_port
    finally:
        process.send_signal(signal.SIGTERM)
        await process.wait()


async def test_a_service_is_live_and_becomes_ready_with_its_broker(
    scorer: tuple[int, int], nats_binary: Path, tmp_path: Path
) -> None:
    health_port, broker_port = scorer
    assert await health(health_port, LIVE) == SERVING
    assert await health(health_port, SCORER) == NOT_SERVING
    async with NatsServer(nats_binary, tmp_path / "nats", port=broker_port), asyncio.timeout(PATIENCE_S):
        async for status in watch(health_port, SCORER):
            if status == SERVING:
                return
