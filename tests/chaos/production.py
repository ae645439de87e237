"""A world as in production: three nodes of a new broker, TLS, keys, three of each service, several runs, people."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import httpx
from labelloop.eventlog.connection import connect as connect_broker
from labelloop.eventlog.connection import jetstream
from labelloop.eventlog.log import EventLog
from labelloop.eventlog.subjects import STREAM
from labelloop_cli.clients import Clients, Endpoints, connect
from labelloop_cli.local.stack import Service
from nats.aio.client import Client

from oracle_svc.web.auth import OWN_HEADER
from tests.integration.production_broker import Node, make_streams, running, three_nodes

COPIES = 3
USER = "X-User"
_MISTAKEN = {400, 401, 403, 404, 405}  # requests that this file gets wrong
_NOTHING_TO_LABEL_S = 0.1


@dataclass
class Production:
    """``services`` by module and number, such as "oracle2".

    Attributes:
        clients: Clients of each trainer, with a scorer and an oracle.
        answers: How often each request was answered, and this acknowledged.
        statuses: How often people got each HTTP status.
    """

    nodes: list[Node]
    services: dict[str, Service]
    clients: list[Clients]
    answers: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)

    def copies(self, module: str) -> list[Service]:
        return [self.services[f"{module}{number}"] for number in range(COPIES)]

    async def label(self, person: str, run_id: str, seed: int) -> None:
        """Label a run's samples at an oracle drawn for each request, until cancelled."""
        rng = random.Random(seed)
        async with httpx.AsyncClient(trust_env=False, headers={USER: person, OWN_HEADER: "1"}, timeout=30) as client:
            while True:
                leased = await self._post(client, rng, f"{run_id}/next", {"count": 2})
                requests = leased.json().get("requests", []) if leased.is_success else []
                results = [{"request_id": each["request_id"], "label": rng.randrange(3)} for each in requests]
                if not results:
                    await asyncio.sleep(_NOTHING_TO_LABEL_S)
                elif (await self._post(client, rng, f"{run_id}/answers", {"results": results})).is_success:
                    self.answers.update(each["request_id"] for each in requests)

    async def _post(self, client: httpx.AsyncClient, rng: random.Random, path: str, body: object) -> httpx.Response:
        oracle = rng.choice(self.copies("oracle"))
        answer = await client.post(f"http://127.0.0.1:{oracle.http_port}/api/runs/{path}", json=body)
        assert answer.status_code not in _MISTAKEN, answer.text
        self.statuses[answer.status_code] += 1
        return answer

    async def leading_node(self) -> Node:
        """Return the node that leads the stream of events."""
        async with self._broker() as client:
            info = await jetstream(client).stream_info(STREAM)
        return next(node for node in self.nodes if info.cluster and node.name == info.cluster.leader)

    async def longest_pause_s(self, run_id: str) -> float:
        """Return the longest time between two events of a run, by when their writers began to write them."""
        async with self._broker() as client:
            times = [recorded.at for recorded in await EventLog(client).read_run(run_id)]
        return max((later - earlier).total_seconds() for earlier, later in pairwise(times))

    @asynccontextmanager
    async def _broker(self) -> AsyncIterator[Client]:
        access, urls = self.nodes[0].access, [node.url for node in self.nodes]
        tls_dir, seed = access.tls_dir("trainer"), access.seed("trainer")
        client = await connect_broker(",".join(urls), "trainer", tls_dir=tls_dir, nkey_file=seed)
        try:
            yield client
        finally:
            await client.close()

    @property
    def faults_of_ours(self) -> dict[int, int]:
        """Statuses of 500 and above that people got, with how often."""
        return {status: count for status, count in self.statuses.items() if status >= 500}


@asynccontextmanager
async def production(binary: Path, folder: Path) -> AsyncIterator[Production]:
    """Start everything, and keep services up as a supervisor would."""
    nodes = three_nodes(binary, folder, tls=True)
    async with AsyncExitStack() as stack:
        stack.enter_context(running(nodes))
        for node in nodes:
            await node.ready()
        await make_streams(nodes[0], len(nodes))
        services: dict[str, Service] = {}
        for module in ("oracle", "scorer", "trainer"):
            made = [_service(module, number, nodes, folder, services) for number in range(COPIES)]
            services |= {f"{module}{number}": service for number, service in enumerate(made)}
            for service in made:
                stack.push_async_callback(service.stop)
            await asyncio.gather(*(service.start() for service in made))
        clients = [await stack.enter_async_context(connect(_endpoints(services, i, nodes))) for i in range(COPIES)]
        keeping = [asyncio.create_task(service.keep_up()) for service in services.values()]
        stack.push_async_callback(_end, keeping)
        yield Production(nodes, services, clients)


def _service(module: str, number: int, nodes: list[Node], folder: Path, peers: dict[str, Service]) -> Service:
    access, logs = nodes[0].access, folder / f"logs{number}"
    logs.mkdir(exist_ok=True)
    environment = {
        "LABELLOOP_NATS_URL": ",".join(node.url for node in nodes),
        "LABELLOOP_NATS_NKEY_FILE": str(access.seed(module)),
        "LABELLOOP_TLS_DIR": str(access.tls_dir(module)),
        "LABELLOOP_REPLICAS": str(len(nodes)),
        "LABELLOOP_CACHE_DIR": str(folder / f"cache{number}"),
        "LABELLOOP_LOG_FORMAT": "json",
    }
    if module == "oracle":
        environment |= {"LABELLOOP_HTTP_PORT": "0", "LABELLOOP_HTTP_USER_HEADER": USER}
    if module == "trainer":
        environment |= {"LABELLOOP_SCORER": _all(peers, "scorer"), "LABELLOOP_ORACLE": peers[f"oracle{number}"].address}
    return Service(module, logs, environment)


def _endpoints(services: dict[str, Service], number: int, nodes: list[Node]) -> Endpoints:
    trainer, scorer, oracle = (services[f"{module}{number}"].address for module in ("trainer", "scorer", "oracle"))
    return Endpoints(trainer=trainer, scorer=scorer, oracle=oracle, tls_dir=nodes[0].access.tls_dir("client"))


def _all(services: dict[str, Service], module: str) -> str:
    """Return the addresses of all copies, as the trainer's settings name them."""
    return f"ipv4:{','.join(services[f'{module}{number}'].address for number in range(COPIES))}"


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
