"""Fixtures: all services as separate processes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path

import pytest
import pytest_asyncio
from labelloop_cli.clients import Clients, connect
from labelloop_cli.local.stack import Stack, running

from tests.blobs import Blobs, write_blobs

_numbers = count(1)


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


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_stack(tmp_path_factory: pytest.TempPathFactory, nats_binary: Path) -> AsyncIterator[Stack]:
    """As ``stack``, for all tests of a file that run in the file's event loop, each with runs of its own: starting the
    services takes more processor time than most runs."""
    async with running(tmp_path_factory.mktemp("shared") / "store") as up:
        yield up


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_clients(shared_stack: Stack) -> AsyncIterator[Clients]:
    async with connect(shared_stack.endpoints) as clients:
        yield clients


@pytest.fixture
def run_id() -> str:
    """A run id that no other test of this process uses."""
    return f"run-{next(_numbers)}"
