"""NatsServer with a real nats-server: ports, store, start, stop and crashes."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import nats
import pytest
from labelloop.errors import WrongState
from labelloop_cli.local.nats.server import NatsServer
from nats.aio.client import Client


@asynccontextmanager
async def connected(server: NatsServer) -> AsyncIterator[Client]:
    client = await nats.connect(server.url, allow_reconnect=False)
    try:
        yield client
    finally:
        await client.close()


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_port_0_selects_a_free_port_and_jetstream_responds(nats_server: NatsServer) -> None:
    assert nats_server.port > 0
    async with connected(nats_server) as client:
        assert (await client.jetstream().account_info()).streams == 0


async def test_two_servers_run_side_by_side(nats_server: NatsServer, nats_binary: Path, tmp_path: Path) -> None:
    async with NatsServer(nats_binary, tmp_path / "other") as other:
        assert other.port != nats_server.port


async def test_stopping_ends_the_process_and_closes_the_port(nats_binary: Path, tmp_path: Path) -> None:
    async with NatsServer(nats_binary, tmp_path) as server:
        pid, port = server.pid, server.port
    assert not runs(pid)
    assert not answers(port)
    assert not list(tmp_path.glob("*.ports"))
    await server.stop()  # a second stop is harmless


async def test_a_restart_uses_the_same_port(nats_server: NatsServer) -> None:
    port = nats_server.port
    await nats_server.stop()
    await nats_server.start()
    assert nats_server.port == port


async def test_an_occupied_port_is_an_error_and_its_server_keeps_running(
    nats_server: NatsServer, nats_binary: Path, tmp_path: Path
) -> None:
    with pytest.raises(WrongState, match=f"port {nats_server.port} .* choose another") as caught:
        await NatsServer(nats_binary, tmp_path / "other", port=nats_server.port).start()
    assert caught.value.reason == "PORT_IN_USE"
    assert answers(nats_server.port)


async def test_a_store_in_use_is_an_error_that_names_its_server(nats_server: NatsServer, nats_binary: Path) -> None:
    with pytest.raises(WrongState, match=f"kill {nats_server.pid}") as caught:
        await NatsServer(nats_binary, nats_server.store.folder).start()
    assert caught.value.reason == "STORE_IN_USE"
    assert answers(nats_server.port)


async def test_a_stream_survives_a_restart(nats_server: NatsServer) -> None:
    async with connected(nats_server) as client:
        js = client.jetstream()
        await js.add_stream(name="KEPT", subjects=["kept.>"])
        await js.publish("kept.1", b"once")
    await nats_server.stop()
    await nats_server.start()
    async with connected(nats_server) as client:
        assert (await client.jetstream().get_last_msg("KEPT", "kept.1")).data == b"once"


async def test_a_killed_server_is_reported_and_restarts_with_its_store(nats_server: NatsServer) -> None:
    async with connected(nats_server) as client:
        await client.jetstream().add_stream(name="KEPT", subjects=["kept.>"])
    os.kill(nats_server.pid, signal.SIGKILL)
    with pytest.raises(WrongState, match="ended by itself"):
        await nats_server.wait()
    await nats_server.start()
    async with connected(nats_server) as client:
        assert (await client.jetstream().stream_info("KEPT")).config.name == "KEPT"


async def test_wait_returns_without_an_error_on_stop(nats_server: NatsServer) -> None:
    waiting = asyncio.create_task(nats_server.wait())
    await asyncio.sleep(0)
    await nats_server.stop()
    await waiting


async def test_ctrl_c_does_not_reach_the_servers_process_group(nats_server: NatsServer) -> None:
    assert os.getpgid(nats_server.pid) != os.getpgid(0)


async def test_the_error_names_an_unusable_store(nats_binary: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WrongState, match="file") as caught:
        await NatsServer(nats_binary, tmp_path / "file").start()
    assert caught.value.reason == "STORE_UNUSABLE"


async def test_the_error_quotes_a_server_that_fails_to_start(nats_binary: Path, tmp_path: Path) -> None:
    (tmp_path / "jetstream").touch()  # where the server needs a folder
    with pytest.raises(WrongState, match=r"ended at once(.|\n)*storage directory"):
        await NatsServer(nats_binary, tmp_path).start()


async def test_the_error_names_a_missing_program(tmp_path: Path) -> None:
    with pytest.raises(WrongState, match="absent does not run"):
        await NatsServer(tmp_path / "absent", tmp_path / "nats").start()


async def test_a_server_that_does_not_react_to_sigterm_is_killed(nats_server: NatsServer) -> None:
    os.kill(nats_server.pid, signal.SIGSTOP)  # a stopped process acts on no SIGTERM
    await nats_server.stop(within_s=0.1)
    assert not runs(nats_server.pid)


async def test_a_cancelled_stop_still_ends_the_process(nats_server: NatsServer) -> None:
    os.kill(nats_server.pid, signal.SIGSTOP)
    stopping = asyncio.create_task(nats_server.stop())
    await asyncio.sleep(0)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    assert not runs(nats_server.pid)
