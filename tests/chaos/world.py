"""A broker and all services, with proxies on the connections between them, to be broken and watched."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labelloop.eventlog.connection import connect as connect_broker
from labelloop_cli.clients import Clients, Endpoints, connect
from labelloop_cli.local.nats.server import NatsServer
from labelloop_cli.local.stack import Service
from nats.aio.client import Client

from tests.blobs import Blobs, write_blobs
from tests.chaos.cluster import Cluster, cluster
from tests.chaos.endings import Ending
from tests.chaos.log_watch import LogWatch
from tests.chaos.proxy import Proxy

ARMED = "LABELLOOP_CRASH_AT"
SERVICES = ("trainer", "scorer", "oracle")


@dataclass(frozen=True)
class Plan:
    """Configuration of a world. ``twins`` doubles every service; ``broker_store`` and ``artifacts`` are folders."""

    twins: bool = False
    clustered: bool = False
    broker_store: Path | None = None
    artifacts: Path | None = None
    environment: dict[str, str] = field(default_factory=dict)


@dataclass
class World:
    """All that runs: ``services`` by module, twins with a 2 appended, and ``ways``, such as "trainer-broker"."""

    blobs: Blobs
    broker: NatsServer | None
    nodes: Cluster | None
    services: dict[str, Service]
    ways: dict[str, Proxy]
    watch: LogWatch
    client: Client
    clients: Clients
    calm: dict[bytes, list[str]] = field(default_factory=dict)
    calm_endings: dict[bytes, Ending] = field(default_factory=dict)

    @property
    def the_broker(self) -> NatsServer:
        assert self.broker is not None, "this world has one broker"
        return self.broker

    @property
    def the_cluster(self) -> Cluster:
        assert self.nodes is not None, "this world has a cluster"
        return self.nodes

    def send(self, name: str, what: signal.Signals) -> int:
        """Send a signal to a service, and return its process id."""
        process = self.services[name].process
        assert process is not None, "services are up"
        os.kill(process.pid, what)
        return process.pid

    async def up_again(self, name: str, dead: int) -> None:
        """Return once a service is ready as another process than ``dead``."""
        service = self.services[name]
        while True:
            process, ready = service.process, service.folder / f"{service.name}.ready"
            if process and process.pid != dead and process.returncode is None and ready.exists():
                return
            await asyncio.sleep(0.02)

    async def restart(self, name: str) -> None:
        """Kill a service, and return once it is ready again, with its current environment."""
        await self.up_again(name, self.send(name, signal.SIGKILL))


@asynccontextmanager
async def world(folder: Path, binary: Path, plan: Plan) -> AsyncIterator[World]:
    """Start everything and keep it running: a service that dies is started again, as by any supervisor."""
    folder.mkdir(parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        nodes = await stack.enter_async_context(cluster(binary, folder / "nodes")) if plan.clustered else None
        broker = None
        if nodes is None:
            broker = await stack.enter_async_context(NatsServer(binary, plan.broker_store or folder / "nats"))
        hall = _Hall(stack, folder, plan, broker, nodes)
        await hall.fill()
        client = await connect_broker(hall.nats_url, "test")
        stack.push_async_callback(client.close)
        trainer, scorer, oracle = (hall.services[name].address for name in SERVICES)
        endpoints = Endpoints(trainer=trainer, scorer=scorer, oracle=oracle)
        clients = await stack.enter_async_context(connect(endpoints))
        watch = LogWatch()
        keeping = [service.keep_up() for service in hall.services.values()]
        await _in_background(stack, watch.follow(client), *keeping)
        yield World(write_blobs(folder), broker, nodes, hall.services, hall.ways, watch, client, clients)


@dataclass
class _Hall:
    """Starts the services, and gives each the others' addresses behind a proxy."""

    stack: AsyncExitStack
    folder: Path
    plan: Plan
    broker: NatsServer | None
    nodes: Cluster | None
    services: dict[str, Service] = field(default_factory=dict)
    ways: dict[str, Proxy] = field(default_factory=dict)

    @property
    def nats_url(self) -> str:
        return self.nodes.url if self.nodes else self.broker.url if self.broker else ""

    async def fill(self) -> None:
        copies = ("", "2") if self.plan.twins else ("",)
        for copy in copies:
            await asyncio.gather(self._start("scorer", copy, {}), self._start("oracle", copy, {}))
        for copy in copies:
            scorers = [await self._way(f"trainer{copy}-scorer{other}", f"scorer{other}") for other in copies]
            oracle = await self._way(f"trainer{copy}-oracle", f"oracle{copy}")
            peers = {"LABELLOOP_SCORER": f"ipv4:{','.join(scorers)}", "LABELLOOP_ORACLE": oracle}
            await self._start("trainer", copy, peers)

    async def _way(self, name: str, to: str) -> str:
        port = self.services[to].port if to in self.services else self.broker.port if self.broker else 0
        self.ways[name] = await self.stack.enter_async_context(Proxy(port))
        return f"127.0.0.1:{self.ways[name].port}"

    async def _start(self, module: str, copy: str, peers: dict[str, str]) -> None:
        logs = self.folder / f"logs{copy}"
        logs.mkdir(exist_ok=True)
        nats_url = self.nats_url if self.nodes else f"nats://{await self._way(f'{module}{copy}-broker', 'broker')}"
        environment = {"LABELLOOP_NATS_URL": nats_url, "LABELLOOP_REPLICAS": "3" if self.nodes else "1"}
        environment["LABELLOOP_CACHE_DIR"] = str(self.folder / f"cache{copy}")
        environment["LABELLOOP_LOG_FORMAT"] = "json"
        environment["LABELLOOP_POOLS_DIR"] = str(self.folder)
        environment[ARMED] = str(logs / f"{module}.crash")
        if self.plan.artifacts:
            environment["LABELLOOP_ARTIFACTS_URL"] = f"file://{self.plan.artifacts}"
        service = Service(module, logs, environment | self.plan.environment | peers)
        self.services[f"{module}{copy}"] = service
        self.stack.push_async_callback(service.stop)
        await service.start()


async def _in_background(stack: AsyncExitStack, *works: Coroutine[Any, Any, None]) -> None:
    tasks = [asyncio.create_task(work) for work in works]

    async def end() -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    stack.push_async_callback(end)
