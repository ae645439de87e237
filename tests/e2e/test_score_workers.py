"""Scorer workers on one port: started, killed and stopped."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from labelloop.errors import InvalidInput, WrongState
from labelloop_cli.local.nats.server import NatsServer
from labelloop_cli.local.stack import Service

from tests.e2e.stopping import ask_to_stop, until

COUNT = 2


def scorer(folder: Path, broker: NatsServer, port: int = 0, workers: object = COUNT) -> Service:
    folder.mkdir(exist_ok=True)
    ours = {"SCORER_WORKERS": str(workers), "LABELLOOP_CACHE_DIR": str(folder)}
    return Service("scorer", folder, {"LABELLOOP_NATS_URL": broker.url, **ours}, port)


def children(service: Service) -> set[int]:
    assert service.process is not None, "it is started"
    pid = service.process.pid
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}/exe").exists()


def listening(service: Service) -> set[int]:
    """The workers that listen on its port."""
    tables = [Path(f"/proc/net/{name}").read_text().splitlines()[1:] for name in ("tcp", "tcp6")]  # gRPC maps IPv4
    rows = [line.split() for table in tables for line in table]
    listeners = [row for row in rows if int(row[1].rpartition(":")[2], 16) == service.port and row[3] == "0A"]
    sockets = {f"socket:[{row[9]}]" for row in listeners}
    return {pid for pid in children(service) if sockets & open_files(pid)}


def open_files(pid: int) -> set[str]:
    found = set()
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            found.add(str(file.readlink()))
    return found


async def answers(service: Service) -> bool:
    async with grpc.aio.insecure_channel(service.address) as channel:
        try:
            check: Any = health_pb2_grpc.HealthStub(channel)
            answer = await check.Check(health_pb2.HealthCheckRequest(), timeout=5)
        except grpc.aio.AioRpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


@asynccontextmanager
async def up(service: Service) -> AsyncIterator[Service]:
    try:
        await service.start()
        yield service
    finally:
        await service.stop()


async def test_all_workers_listen_on_one_port_once_the_service_is_ready(
    tmp_path: Path, nats_server: NatsServer
) -> None:
    async with up(scorer(tmp_path / "a", nats_server)) as service:
        assert listening(service) == children(service)
        assert len(children(service)) == COUNT
        assert await answers(service)


async def test_a_killed_worker_is_restarted_and_a_stop_ends_all_workers(
    tmp_path: Path, nats_server: NatsServer
) -> None:
    async with up(scorer(tmp_path / "a", nats_server)) as service:
        before = children(service)
        os.kill(min(before), signal.SIGKILL)

        async def replaced() -> bool:
            return len(listening(service)) == COUNT and len(listening(service) - before) == 1

        await until(replaced)
        assert await answers(service)
        workers = children(service)
        await ask_to_stop(service)
        assert not [pid for pid in workers | before if alive(pid)]


async def test_workers_end_when_their_supervisor_is_killed(tmp_path: Path, nats_server: NatsServer) -> None:
    async with up(scorer(tmp_path / "a", nats_server)) as service:
        workers = children(service)
        assert service.process is not None
        service.process.kill()

        async def gone() -> bool:
            return not [pid for pid in workers if alive(pid)]

        await until(gone)
        assert len(workers) == COUNT


async def test_a_port_in_use_is_an_error_for_workers_too(tmp_path: Path, nats_server: NatsServer) -> None:
    async with up(scorer(tmp_path / "a", nats_server)) as first:
        for workers in (1, COUNT):
            with pytest.raises(WrongState, match=r"cannot listen on .*LABELLOOP_PORT"):
                await scorer(tmp_path / f"b{workers}", nats_server, first.port, workers).start()
        assert await answers(first)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(WrongState, match=r"cannot listen on .*LABELLOOP_PORT"):
            await scorer(tmp_path / "c", nats_server, other.getsockname()[1]).start()


@pytest.mark.parametrize("workers", ["0", "two", "-1"])
async def test_an_invalid_number_of_workers_is_refused_by_its_name(
    tmp_path: Path, nats_server: NatsServer, workers: str
) -> None:
    service = scorer(tmp_path / "a", nats_server, workers=workers)
    with pytest.raises(InvalidInput, match="SCORER_WORKERS: "):
        await service.start()
    assert service.process is not None
    assert service.process.returncode == 2
    assert "LABELLOOP_SCORER_WORKERS" not in service.log_file.read_text()
