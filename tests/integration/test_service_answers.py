"""``labelloop doctor`` against real gRPC servers, a real broker and real certificates."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from labelloop.artifacts.opening import open_store
from labelloop.eventlog.connection import connect as connect_broker
from labelloop.eventlog.log import EventLog
from labelloop.rpc.server import Server
from labelloop.settings import ServiceSettings
from labelloop_cli.clients import Endpoints
from labelloop_cli.local.certificates import Pair, authority, issue
from labelloop_cli.local.checks import Check
from labelloop_cli.local.nats.server import NatsServer
from labelloop_cli.operations.doctor import checks_of_services, examine
from nats.aio.client import Client

NAMES = ("trainer", "scorer", "oracle")
DAY = timedelta(days=1)
HOST = "127.0.0.1"


class HeldUp:
    def __init__(self) -> None:
        self.problems = {"r": "the pool is gone", "well": ""}

    def held_up(self) -> list[str]:
        return ["r"]


@pytest.fixture
async def client(nats_server: NatsServer) -> AsyncIterator[Client]:
    client = await connect_broker(nats_server.url, "trainer")
    yield client
    await client.close()


@asynccontextmanager
async def serving(client: Client, folder: Path, tls: dict[str, Path]) -> AsyncIterator[Endpoints]:
    """Serve what each service serves to everybody; ``tls`` has a folder of certificates by service, and by "client"."""
    addresses = []
    async with AsyncExitStack() as exits:
        for name in NAMES:
            settings = ServiceSettings(tls_dir=tls.get(name))
            server = Server(settings, f"labelloop.{name}.v1.{name.capitalize()}Service")
            server.diagnostics.about(client, folders=[folder / "not-yet-there"])
            await server.start()
            exits.push_async_callback(server.stop)
            addresses.append(f"{HOST}:{server.port}")
        trainer, scorer, oracle = addresses
        yield Endpoints(trainer=trainer, scorer=scorer, oracle=oracle, tls_dir=tls.get("client"))


def certificates(folder: Path, by: Pair, **lifetimes: timedelta) -> dict[str, Path]:
    folders = {name: folder / name for name in (*NAMES, "client")}
    for name, each in folders.items():
        each.mkdir()
        pair = issue(by, name, [HOST], lifetimes.get(name, 60 * DAY))
        (each / "ca.crt").write_bytes(by.certificate_pem)
        (each / "tls.crt").write_bytes(pair.certificate_pem)
        (each / "tls.key").write_bytes(pair.key_pem)
    return folders


def named(found: Sequence[Check]) -> dict[str, Check]:
    return {check.name: check for check in found}


async def test_services_that_are_well_pass(client: Client, tmp_path: Path) -> None:
    await EventLog(client).ensure_stream()
    await open_store("jetstream:", client).put(b"model")
    async with serving(client, tmp_path, {}) as endpoints:
        found = await checks_of_services(endpoints)
    assert [check for check in found if not check.ok] == []
    broker = named(found)["scorer broker"].found
    assert re.match(r"nats-server \d+\.\d+\.\d+; ", broker)
    assert "LABELLOOP 0.0 GB on 1 of 1; OBJ_labelloop-artifacts 0.0 GB on 1 of 1" in broker
    assert named(found)["TLS"].found.startswith("off")
    assert str(tmp_path) in named(found)["oracle disk"].found


async def test_certificates_are_read_on_both_sides(client: Client, tmp_path: Path) -> None:
    tls = certificates(tmp_path, authority(400 * DAY), scorer=3 * DAY, client=5 * DAY)
    async with serving(client, tmp_path, tls) as endpoints:
        found = named(await checks_of_services(endpoints))
    assert {name: check.found for name, check in found.items() if "days left" in check.found} == {
        "own certificate": "4 days left",
        "authority": "399 days left",
        "trainer certificate": "59 days left",
        "scorer certificate": "2 days left",
        "oracle certificate": "59 days left",
    }
    assert [name for name, check in found.items() if not check.ok] == ["own certificate", "scorer certificate"]


async def test_a_certificate_that_has_ended_is_named_as_the_cause(client: Client, tmp_path: Path) -> None:
    tls = certificates(tmp_path, authority(DAY * 400), oracle=-DAY)
    async with serving(client, tmp_path, tls) as endpoints:
        found = await checks_of_services(endpoints)
    [fault] = [check for check in found if not check.ok]
    assert fault.name == "oracle"
    assert "its certificate is refused: certificate has expired" in fault.found


async def test_a_service_that_is_away_and_runs_held_up_are_faults(client: Client, tmp_path: Path) -> None:
    server = Server(ServiceSettings(), "labelloop.trainer.v1.TrainerService")
    server.diagnostics.about(client, HeldUp())
    await server.start()
    try:
        endpoints = Endpoints(trainer=f"{HOST}:{server.port}", scorer=f"{HOST}:{server.port}", oracle=f"{HOST}:1")
        found = [check for check in await checks_of_services(endpoints) if not check.ok]
    finally:
        await server.stop()
    assert [check.name for check in found] == ["scorer", "oracle", "run r"]
    assert found[2].found == "held up: the pool is gone"
    assert all(check.advice for check in found)


async def test_a_broker_that_is_away_is_a_fault(nats_server: NatsServer, client: Client, tmp_path: Path) -> None:
    async with serving(client, tmp_path, {}) as endpoints:
        await nats_server.stop()
        found = await checks_of_services(endpoints)
    assert {check.name for check in found if not check.ok} == {"trainer broker", "scorer broker", "oracle broker"}


def test_services_elsewhere_are_checked_in_place_of_this_machine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in NAMES:
        monkeypatch.setenv(f"LABELLOOP_{name.upper()}", f"{name}.invalid:50051")
    monkeypatch.setenv("COLUMNS", "200")
    assert examine() == 1
    said = capsys.readouterr().out
    assert said.count("fault") == 3
    assert "torch" not in said
    assert "nats-server" not in said
    assert "see that the oracle runs" in said
