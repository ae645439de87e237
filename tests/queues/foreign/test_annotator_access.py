"""Annotators work as a broker's user that may do no more than the page about annotation tools lists."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path

import pytest
from labelloop.eventlog.connection import connect
from nats.aio.client import Client

from oracle_svc.integrations.nats import Nats
from tests.patience import PATIENCE_S
from tests.ports import free_port
from tests.queues.fake_intake import FakeIntake
from tests.queues.foreign.programs import node
from tests.queues.message_contract import ids, requests, serving

RUN = "pets"
PERMISSIONS = Path(__file__).with_name("annotator.conf")
_CONFIGURATION = """
listen: "127.0.0.1:{port}"
jetstream: {{store_dir: {store}}}
include "annotator.conf"
authorization: {{
  users: [
    {{user: services, password: all}}
    {{user: annotator, password: few, permissions: $annotator_may}}
  ]
}}
"""


@pytest.fixture
async def address(tmp_path: Path, nats_binary: Path) -> AsyncIterator[str]:
    """The place of a broker with an annotator among its users."""
    port = free_port()
    (tmp_path / "annotator.conf").write_text(PERMISSIONS.read_text())
    settings = tmp_path / "nats.conf"
    settings.write_text(_CONFIGURATION.format(port=port, store=json.dumps(str(tmp_path / "store"))))
    server = await asyncio.create_subprocess_exec(nats_binary, "-c", settings)
    yield f"127.0.0.1:{port}"
    server.terminate()
    await server.wait()


@pytest.fixture
async def services(address: str) -> AsyncIterator[Client]:
    async with asyncio.timeout(PATIENCE_S):
        client = await connect(f"nats://services:all@{address}", "oracle")
    yield client
    await client.close()


def example(folder: Path) -> list[str]:
    return [sys.executable, str(Path(__file__).parents[1] / "example_annotator.py")]


@pytest.mark.parametrize("program", ["example", "node"])
async def test_an_annotator_needs_no_more_than_the_permissions_listed(
    program: str, address: str, services: Client, tmp_path: Path
) -> None:
    queue, result_sink, asked = Nats(services), FakeIntake(), requests(12, run=RUN)
    for each in asked:
        each.sha256 = sha256(each.content).hexdigest()
    await queue.push(asked)
    (tmp_path / "answers.json").write_text("{}")
    command = example(tmp_path) if program == "example" else node("nats", tmp_path)
    more = ["ann"] if program == "example" else [str(tmp_path / "answers.json"), "ann"]
    annotator = await asyncio.create_subprocess_exec(*command, f"nats://annotator:few@{address}", RUN, *more)
    try:
        async with serving(queue, result_sink):
            await result_sink.until_all(len(asked))
    finally:
        annotator.kill()
        await annotator.wait()
    assert sorted(result_sink.ids()) == sorted(ids(asked))
