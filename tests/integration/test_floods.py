"""Connections that ask nothing, on every port of running services."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, BinaryIO

import grpc
import httpx
import pytest
from labelloop.observability.metrics_server import CONNECTIONS_MAX, MetricsServer
from labelloop.oracle.v1.oracle_pb2 import GetBacklogRequest
from labelloop.oracle.v1.oracle_pb2_grpc import OracleServiceStub
from labelloop.rpc.health import LIVE, Probes
from labelloop.rpc.server import Server
from labelloop.runtime.listening import listening_socket
from labelloop.settings import ServiceSettings
from labelloop_cli.local import stack
from labelloop_cli.local.nats.server import NatsServer
from prometheus_client import CollectorRegistry, Counter, make_wsgi_app

from tests.blobs import spec, write_blobs
from tests.e2e.driving import finish, start
from tests.half_open import half_open
from tests.integration.probing import health
from tests.integration.watched import Watched, metrics_address, page, watched
from tests.patience import PATIENCE_S

FLOOD = 2_000
SERVING = 1
FEW = 1_000  # descriptors: half of what the flood would take
HTTP_2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\0\0\0\x04\0\0\0\0\0"
OUT_OF_DESCRIPTORS = "socket.accept() out of system resource"
"""What asyncio logs before it accepts again a second later. gRPC accepts a connection before it closes it as one too
many, so a busy machine may see more than the limit for a moment."""
PAGE = {"LABELLOOP_HTTP_PORT": "0", "LABELLOOP_HTTP_TOKEN": "open-sesame"}


@asynccontextmanager
async def counting(header_s: float = PATIENCE_S) -> AsyncIterator[tuple[str, MetricsServer]]:
    """Serve one counter."""
    registry = CollectorRegistry()
    Counter("things_total", "Things.", registry=registry).inc(3)
    server, listening = MetricsServer(make_wsgi_app(registry), header_s), listening_socket("127.0.0.1", 0)
    server.start(listening)
    yield f"http://127.0.0.1:{listening.getsockname()[1]}", server


async def scraped(url: str) -> httpx.Response:
    async with httpx.AsyncClient(timeout=PATIENCE_S) as client:
        return await client.get(f"{url}/metrics")


@pytest.mark.parametrize("sent", [b"", b"GET /metrics HTTP/1.1\r\nX-Slow: "], ids=["silent", "half a header"])
async def test_metrics_are_served_while_2000_connections_ask_nothing(sent: bytes) -> None:
    async with counting() as (url, server), half_open(url, FLOOD, sent):
        answer = await scraped(url)
        assert answer.status_code == 200
        assert "things_total 3.0" in answer.text
        assert answer.headers["content-type"].startswith("text/plain")
        assert server.connections <= CONNECTIONS_MAX


@pytest.mark.parametrize("sent", [b"", b"GET /", b"a" * 100_000], ids=["silent", "half a line", "too long"])
async def test_the_metrics_port_closes_a_connection_that_does_not_ask(sent: bytes) -> None:
    async with counting(header_s=0.2) as (url, _), half_open(url, 1, sent) as (half,), asyncio.timeout(PATIENCE_S):
        assert await half.closed() == b""


async def test_a_collector_that_fails_is_a_500_and_the_next_scrape_is_answered() -> None:
    registry = CollectorRegistry()
    app, broken = make_wsgi_app(registry), [False, True]

    def failing(environ: dict[str, Any], begin: Callable[..., object]) -> Iterable[bytes]:
        if broken.pop():
            raise ValueError("no figures today")
        return [*app(environ, begin)]

    server, listening = MetricsServer(failing), listening_socket("127.0.0.1", 0)
    server.start(listening)
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    assert [(await scraped(url)).status_code for _ in range(2)] == [500, 200]


async def healthy(port: int) -> bool:
    async with httpx.AsyncClient(timeout=PATIENCE_S) as client:
        return (await client.get(f"http://127.0.0.1:{port}/healthz")).status_code == 200


async def _launch_with_few_descriptors(
    module: str, environment: Mapping[str, str], output: BinaryIO
) -> asyncio.subprocess.Process:
    command = f"ulimit -S -n {FEW // 2}; ulimit -H -n {FEW}; exec {sys.executable} -m {module}"
    return await asyncio.create_subprocess_exec(
        *("sh", "-c", command),
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )


def addresses(up: Watched) -> dict[str, tuple[str, bytes]]:
    """Return the URL of each kind of port, and what to send on it before falling silent."""
    oracle = up.services["oracle"]
    return {
        "page": (f"http://127.0.0.1:{oracle.http_port}", b"GET / HTTP/1.1\r\n"),
        "metrics": (f"http://{metrics_address(oracle)}", b"GET /metrics HTTP/1.1\r\n"),
        "gRPC": (f"http://{oracle.address}", HTTP_2 + SETTINGS),
    }


async def test_a_run_goes_on_while_every_port_of_the_oracle_is_flooded(
    tmp_path: Path, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With half as many descriptors as connections on each port."""
    monkeypatch.setattr(stack, "launch", _launch_with_few_descriptors)
    async with watched(tmp_path, nats_server, {**PAGE, "LABELLOOP_CONNECTION_AGE_S": "0"}) as up:
        await up.clients.oracle.GetBacklog(GetBacklogRequest())  # opens the connection, which stays
        async with AsyncExitStack() as floods:
            for url, sent in addresses(up).values():
                await floods.enter_async_context(half_open(url, FLOOD, sent))
            await start(up.clients, "flooded", spec(write_blobs(tmp_path)))
            await finish(up.clients, "flooded")
            assert await healthy(up.services["oracle"].http_port)
            assert "labelloop_labels_paid_total 30.0" in page(up.services["oracle"])
            await up.clients.oracle.GetBacklog(GetBacklogRequest(), timeout=PATIENCE_S)
            pid = up.services["oracle"].process.pid  # type: ignore[union-attr]
            assert len([*Path(f"/proc/{pid}/fd").iterdir()]) < FEW
        async with grpc.aio.insecure_channel(up.services["oracle"].address) as channel:
            await OracleServiceStub(channel).GetBacklog(GetBacklogRequest(), wait_for_ready=True, timeout=PATIENCE_S)
        assert not [
            line for line in up.lines("oracle") if line["level"] == "error" and OUT_OF_DESCRIPTORS not in line["event"]
        ]


async def test_half_open_connections_to_grpc_are_closed_and_others_served() -> None:
    server, probes = Server(ServiceSettings(), "any"), Probes(ServiceSettings(health_port=0), "any")
    await server.start()
    await server.ready()
    await probes.start()
    ports = (server.port, probes.port)
    try:
        async with AsyncExitStack() as floods:
            opened = [await floods.enter_async_context(half_open(f"http://127.0.0.1:{port}", FLOOD)) for port in ports]
            assert await health(server.port, "") == await health(probes.port, LIVE) == SERVING
            async with asyncio.timeout(40):  # without limits it is a minute
                await asyncio.gather(*(half.closed() for halves in opened for half in halves))
    finally:
        await server.stop()
        await probes.stop()
