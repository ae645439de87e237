"""The whole service as deployed: a cluster with production settings, nkeys, and TLS on every connection."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from grpc_health.v1 import health_pb2
from labelloop.errors import LabelloopError, NotAllowed
from labelloop.rpc.health import LIVE
from labelloop.trainer.v1.trainer_pb2 import CancelRunRequest, ListRunsRequest
from labelloop_cli.clients import Endpoints, connect
from labelloop_cli.local.stack import Service
from labelloop_cli.local.stack import running as plainly_running
from labelloop_cli.operations.archive import export_run, import_run
from labelloop_cli.operations.doctor import checks_of_services

from tests.blobs import Blobs, spec
from tests.e2e.driving import finish, point_at, start
from tests.integration.probing import health
from tests.integration.production_broker import Node, free_ports, make_streams, new_enough, running, three_nodes

FULL_NAMES = {name: f"labelloop.{name}.v1.{name.capitalize()}Service" for name in ("trainer", "scorer", "oracle")}

VIOLATION = " Violation - "  # of publishing or of subscribing


@dataclass
class Secured:
    nodes: list[Node]
    services: dict[str, Service]
    health_ports: dict[str, int]

    @property
    def endpoints(self) -> Endpoints:
        trainer, scorer, oracle = (self.services[name].address for name in FULL_NAMES)
        tls_dir = self.nodes[0].access.tls_dir("client")
        return Endpoints(trainer=trainer, scorer=scorer, oracle=oracle, tls_dir=tls_dir)


@pytest.fixture
async def secured(nats_binary: Path, tmp_path: Path) -> AsyncIterator[Secured]:
    nodes = three_nodes(new_enough(nats_binary, tmp_path / "packages"), tmp_path, tls=True)
    ports = dict(zip(FULL_NAMES, free_ports(len(FULL_NAMES)), strict=True))
    async with AsyncExitStack() as exits:
        exits.enter_context(running(nodes))
        for node in nodes:
            await node.ready()
        await make_streams(nodes[0], len(nodes))
        services: dict[str, Service] = {}
        for name in ("oracle", "scorer", "trainer"):
            environment = environment_of(name, nodes, ports[name], tmp_path)
            if name == "trainer":
                environment |= {f"LABELLOOP_{peer.upper()}": services[peer].address for peer in services}
            services[name] = Service(name, tmp_path, environment)
            exits.push_async_callback(services[name].stop)
            await services[name].start()
        yield Secured(nodes, services, ports)


def environment_of(name: str, nodes: list[Node], health_port: int, folder: Path) -> dict[str, str]:
    access = nodes[0].access
    return {
        "LABELLOOP_NATS_URL": ",".join(node.url for node in nodes),
        "LABELLOOP_REPLICAS": str(len(nodes)),
        "LABELLOOP_TLS_DIR": str(access.tls_dir(name)),
        "LABELLOOP_NATS_NKEY_FILE": str(access.seed(name)),
        "LABELLOOP_HEALTH_PORT": str(health_port),
        "LABELLOOP_CACHE_DIR": str(folder / "cache"),
    }


async def test_a_client_finds_everything_in_order_but_certificates_of_a_day(secured: Secured) -> None:
    found = await checks_of_services(secured.endpoints)
    faults = [check for check in found if not check.ok and "days left" not in check.found]
    assert faults == []
    broker = next(check.found for check in found if check.name == "scorer broker")
    assert "LABELLOOP 0.0 GB on 3 of 3" in broker


async def test_runs_complete_without_permission_violations(secured: Secured, blobs: Blobs) -> None:
    async with connect(secured.endpoints) as clients:
        await start(clients, "secured", spec(blobs))
        run = await finish(clients, "secured")
        assert run.run.labels_paid == spec(blobs).label_budget
        await start(clients, "given-up", spec(blobs))
        await clients.trainer.CancelRun(CancelRunRequest(run_id="given-up"))
        await finish(clients, "given-up")
    for node in secured.nodes:
        assert VIOLATION not in node.log_file.read_text()


async def test_health_probes_are_answered_without_tls(secured: Secured) -> None:
    serving = health_pb2.HealthCheckResponse.SERVING
    for name, full_name in FULL_NAMES.items():
        assert await health(secured.health_ports[name], LIVE) == serving
        assert await health(secured.health_ports[name], full_name) == serving


async def test_command_without_a_certificate_says_what_to_set(secured: Secured) -> None:
    endpoints = secured.endpoints.model_copy(update={"tls_dir": None})
    with pytest.raises(LabelloopError, match="LABELLOOP_TLS_DIR"):
        async with connect(endpoints) as clients:
            await clients.trainer.ListRuns(ListRunsRequest())


async def test_runs_are_imported_only_by_a_trainer_with_permission(
    secured: Secured, blobs: Blobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "run.zip"
    async with plainly_running(tmp_path / "elsewhere") as elsewhere, connect(elsewhere.endpoints) as clients:
        await start(clients, "moved", spec(blobs))
        await finish(clients, "moved")
        point_at(elsewhere.endpoints, monkeypatch)
        await export_run("moved", file)
    point_at(secured.endpoints, monkeypatch)
    with pytest.raises(NotAllowed, match="does not let trainer publish under labelloop"):
        await import_run(file)
    assert any(VIOLATION in node.log_file.read_text() for node in secured.nodes)
    trainer = secured.services["trainer"]
    await trainer.stop()
    trainer.environment["LABELLOOP_NATS_NKEY_FILE"] = str(secured.nodes[0].access.seed("import"))
    await trainer.start()
    await import_run(file)
    async with connect(secured.endpoints) as clients:
        assert (await finish(clients, "moved")).run.labels_paid == spec(blobs).label_budget
