"""Connections to the page that ask nothing, ask slowly, or do not read the answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from itertools import count

import httpx
import pytest
from labelloop.http.deadlines import Deadlines
from labelloop.http.request_body import read_body
from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from oracle_svc.web.app import make_app
from oracle_svc.web.server import WebServer
from oracle_svc.web.settings import WebSettings, from_environment
from tests.half_open import half_open
from tests.patience import PATIENCE_S
from tests.web.conftest import TOKEN, eventually
from tests.web.fake_oracle import FakeOracle, FakeProjections

FLOOD = 2_000
PATIENT = Deadlines(header_s=PATIENCE_S, body_s=PATIENCE_S, read_s=PATIENCE_S)
SHORT = Deadlines(header_s=0.5, body_s=0.5, read_s=0.5, bytes_per_s=1e9)
ANSWER_BYTES = 16_000_000  # more than the kernel buffers


async def large(_: Request) -> Response:
    return Response(bytes(ANSWER_BYTES))


async def taking(request: Request) -> Response:
    return Response(str(len(await read_body(request, 1_000_000, "send less"))))


async def hanging(_: Request) -> Response:
    await asyncio.Event().wait()
    raise AssertionError("nothing sets it")


@asynccontextmanager
async def flooded(deadlines: Deadlines, **changes: object) -> AsyncIterator[tuple[str, WebServer]]:
    projections = FakeProjections()
    oracle = FakeOracle(projections)
    oracle.start_run("digits", batch_size=5, budget=15)
    given = {"http_port": 0, "http_token": SecretStr(TOKEN), "drain_s": 1, "http_proxies": "", **changes}
    settings = WebSettings.model_validate(given)
    routes = [Route("/large", large), Route("/taking", taking, methods=["POST"]), Route("/hanging", hanging)]
    server = WebServer(make_app(oracle, projections, settings, routes), settings, deadlines)
    await server.start()
    try:
        yield f"http://127.0.0.1:{server.port}", server
    finally:
        await server.stop()


async def connections(server: WebServer) -> int:
    return server.connections


async def answers(url: str, source: str = "127.0.0.1") -> bool:
    async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(local_address=source), timeout=10) as client:
        return (await client.get(f"{url}/healthz")).status_code == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow:",
        b"POST /taking HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n1",
    ],
    ids=["silent", "half a header", "half a body"],
)
@pytest.mark.parametrize("source", ["127.0.0.1", "127.0.0.2"])
async def test_the_page_answers_while_2000_connections_ask_nothing(sent: bytes, source: str) -> None:
    async with flooded(PATIENT) as (url, server), half_open(url, FLOOD, sent, source):
        assert await answers(url)
        assert 0 < server.connections <= WebSettings.model_fields["http_connections"].default


async def test_one_address_cannot_take_all_connections_from_others_that_are_answered() -> None:
    """Connections that wait for an answer are not displaced, so their number is limited for each address."""
    asks = b"GET /hanging HTTP/1.1\r\nHost: a\r\n\r\n"
    limits = {"http_connections": 100, "http_connections_of_one": 20}
    async with (
        flooded(PATIENT, **limits) as (url, server),
        half_open(url, 150, asks, "127.0.0.2") as halves,
        asyncio.timeout(PATIENCE_S),
    ):
        told = await halves[-1].closed()
        assert told == b"" or told.startswith(b"HTTP/1.1 503 ")
        assert await answers(url)
        assert server.connections <= 20 + 1


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost: a\r\n",
        b"POST /login HTTP/1.1\r\nHost: a\r\nX-Labelloop: 1\r\nContent-Type: application/json\r\n"
        b"Content-Length: 100\r\n\r\n{",
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{",
        b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
    ids=["nothing", "header", "body", "body that nobody reads", "answer not read"],
)
async def test_a_connection_that_takes_too_long_is_closed(sent: bytes) -> None:
    async with flooded(SHORT) as (url, server), half_open(url, 1, sent):
        await eventually(partial(connections, server), lambda open_: open_ == 1)
        await eventually(partial(connections, server), lambda open_: open_ == 0)


async def test_bytes_that_trickle_in_do_not_extend_the_deadline_of_a_header() -> None:
    async with flooded(SHORT) as (url, _), half_open(url, 1, b"GET / HTTP/1.1\r\n") as (half,):
        async with asyncio.timeout(PATIENCE_S):
            for number in count():
                if not await half.send(b"X-%d: 1\r\n" % number):
                    break
                await asyncio.sleep(0.05)


async def test_a_body_that_comes_fast_enough_is_taken() -> None:
    """The deadline grows with what has come."""
    rate = Deadlines(header_s=PATIENCE_S, body_s=1.0, read_s=PATIENCE_S, bytes_per_s=1_000)
    size, part = 20_000, 4_000
    head = b"POST /taking HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % size
    async with flooded(rate) as (url, _), half_open(url, 1, head) as (half,):
        for _ in range(size // part):
            await asyncio.sleep(0.4)
            assert await half.send(bytes(part))
        assert (await half.closed()).endswith(str(size).encode())


async def test_an_answer_that_is_read_is_sent_whole() -> None:
    async with flooded(PATIENT) as (url, _), httpx.AsyncClient() as client:
        assert len((await client.get(f"{url}/large")).content) == ANSWER_BYTES


async def test_bodies_that_are_not_whole_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labelloop.http.connections.BODIES_BYTES_MAX", 1_000_000)
    head = b"POST /taking HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\n"
    async with flooded(PATIENT) as (url, _), half_open(url, 3, head + bytes(400_000)) as halves:
        async with asyncio.timeout(PATIENCE_S):
            assert await halves[0].closed() == b""
        assert await halves[2].send(bytes(100_000))
        assert await answers(url)


def test_proxies_have_to_be_addresses(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("LABELLOOP_HTTP_PROXIES", "10.0.0.0/8, proxy.example")
    with pytest.raises(SystemExit):
        from_environment()
    assert "LABELLOOP_HTTP_PROXIES" in capsys.readouterr().err
