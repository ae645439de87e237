"""Triton's load generator drives a scorer, by gRPC, in a stream, and by HTTP."""

from __future__ import annotations

import asyncio

import pytest
from labelloop.errors import WrongState

from tests.clients.conftest import Served
from tests.clients.environments import one_at_a_time
from tests.clients.perf_analyzer import find_or_get, measured

_WAYS = {
    "grpc": ("-i", "grpc"),
    "grpc, 5 images": ("-i", "grpc", "-b", "5"),
    "stream": ("-i", "grpc", "--streaming", "--async"),
    "http": ("-i", "http"),
    "http, 5 images": ("-i", "http", "-b", "5"),
}

pytestmark = pytest.mark.asyncio(loop_scope="session")


def _command() -> list[str]:
    with one_at_a_time():
        return find_or_get()


@pytest.mark.parametrize("way", _WAYS)
@pytest.mark.parametrize("model", ["blobs", "texts"])
async def test_every_request_is_answered(way: str, model: str, served: Served) -> None:
    try:
        command = await asyncio.to_thread(_command)
    except WrongState as error:
        pytest.skip(error.message)
    address = served.rest if way.startswith("http") else served.grpc
    found = await measured(command, address, model, *_WAYS[way], "--request-count", "200")
    assert found.rate_s > 0
