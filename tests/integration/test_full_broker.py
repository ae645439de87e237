"""What is said while a broker is full or frozen, on a disk of its own."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from labelloop.artifacts.store import JetStreamArtifacts
from labelloop.errors import Unready
from labelloop.eventlog.connection import connect
from labelloop.eventlog.log import EventLog
from labelloop.eventlog.waiting import WAITS, tell_waits_to
from labelloop.events.v1.events_pb2 import Event, RunFinished
from nats.aio.client import Client

from tests.integration.one_oracle import until
from tests.integration.production_broker import Node, lone_node, make_streams, new_enough, running

SIZE = "24m"
ARTIFACT = bytes(500_000)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("needs the right to mount a tmpfs")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.fixture
async def node(nats_binary: Path, tmp_path: Path, disk: Path) -> AsyncIterator[Node]:
    lone = lone_node(new_enough(nats_binary, tmp_path / "packages"), tmp_path)
    node = replace(lone, folder=disk / "alone")
    with running([node]):
        await node.ready()
        await make_streams(node)
        yield node


@pytest.fixture
async def trainer(node: Node) -> AsyncIterator[Client]:
    client = await connect(node.url, "trainer", nkey_file=node.access.seed("trainer"))
    yield client
    await client.close()


@contextmanager
def filled(disk: Path) -> Iterator[None]:
    """Fill the disk to the last byte; empty it at the end."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (65_536, 512):
            try:
                while file.write(bytes(size)):
                    pass
            except OSError:  # full for writes of this size
                continue
    try:
        yield
    finally:
        ballast.unlink()


def finished(run: int) -> Event:
    return Event(run_id=f"r{run}", round=1, run_finished=RunFinished(reason="x" * 10_000))


async def test_a_full_disk_is_said_and_what_ends_it(node: Node, trainer: Client, disk: Path) -> None:
    log, told = EventLog(trainer), list[str]()
    await log.append_once(finished(0))
    with filled(disk):
        tell_waits_to(told.append)
        writing = asyncio.create_task(log.append_once(finished(1)))
        await until(lambda: bool(told) and "room" in told[-1])
        assert "waits for the broker: it" in told[-1]
        assert "restarted" in told[-1] or "restart the broker" in told[-1]
        assert WAITS.oldest_s()["the broker"] > 5
        assert not writing.done()
    node.kill()  # nats-server 2.15 stores nothing before that, with room or without
    node.start()
    await node.ready()
    assert (await writing).ours
    assert told[-1] == ""


async def test_an_artifact_that_finds_a_full_disk_says_so(node: Node, trainer: Client, disk: Path) -> None:
    artifacts, told = JetStreamArtifacts(trainer), list[str]()
    await artifacts.put(b"another")
    with filled(disk):
        tell_waits_to(told.append)
        storing = asyncio.create_task(artifacts.put(ARTIFACT))
        await until(lambda: storing.done() or bool(told))
        if storing.done():  # the broker says that there is no room: the run is held up with that
            assert isinstance(storing.exception(), Unready)
            assert "does not store artifact" in str(storing.exception())
        else:
            assert "waits for the broker's artifact store: it" in told[-1]
    storing.cancel()
    await asyncio.gather(storing, return_exceptions=True)


async def test_a_frozen_broker_is_said(node: Node, trainer: Client) -> None:
    log, told = EventLog(trainer), list[str]()
    await log.append_once(finished(0))
    node.send(signal.SIGSTOP)
    try:
        tell_waits_to(told.append)
        writing = asyncio.create_task(log.append_once(finished(1)))
        await until(lambda: bool(told))
        assert told[-1].startswith("waits for the broker: ")
    finally:
        node.send(signal.SIGCONT)
    assert (await writing).ours
    assert told[-1] == ""
