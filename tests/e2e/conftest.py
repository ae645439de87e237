"""The whole service, as processes of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from labelloop_cli.clients import Clients, connect
from labelloop_cli.stack import Stack, running

from tests.blobs import Blobs, write_blobs


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return write_blobs(tmp_path)


@pytest.fixture
async def stack(tmp_path: Path, nats_binary: Path) -> AsyncIterator[Stack]:
    """A broker and three services on free ports, with a store of their own."""
    async with running(tmp_path / "store") as up:
        yield up


@pytest.fixture
async def clients(stack: Stack) -> AsyncIterator[Clients]:
    async with connect(stack.endpoints) as clients:
        yield clients
