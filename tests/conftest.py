"""What tests share: a real broker, each test its own."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from labelloop_cli.nats_binary import find_or_get
from labelloop_cli.nats_server import NatsServer
from platformdirs import user_cache_path

# A shell's background job (`make test &`) ignores SIGINT, and so would every process that the tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def nats_binary() -> Path:
    """The nats-server to test with: LABELLOOP_NATS_SERVER, else as ``labelloop up`` finds or gets it."""
    return find_or_get(user_cache_path("labelloop"))


@pytest.fixture
async def nats_server(nats_binary: Path, tmp_path: Path) -> AsyncIterator[NatsServer]:
    """A running broker with an empty store, on a port of its own; stopped after the test."""
    async with NatsServer(nats_binary, tmp_path / "nats") as server:
        yield server
