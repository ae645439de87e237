"""Several trainers, scorers and oracles as processes on one broker or cluster."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from labelloop_cli.clients import Clients, Endpoints, connect
from labelloop_cli.local.stack import Service

from tests.integration.watched import samples, service, value

SERVICES = ("scorer", "oracle", "trainer")  # in the order in which they start


@dataclass(frozen=True)
class Replicas:
    """``services`` holds the replicas of each service, by its name; ``clients`` are those of the first of each."""

    services: Mapping[str, list[Service]]
    clients: Clients

    def owned(self, replica: Service) -> int:
        """Return how many unfinished runs a replica advances."""
        return int(value(samples(replica), "labelloop_runs_owned"))

    def owner(self, name: str) -> Service:
        """Return the replica of a service that advances the only unfinished run."""
        [owner] = [replica for replica in self.services[name] if self.owned(replica)]
        return owner

    def counted(self, name: str, metric: str) -> float:
        """Return the sum of a counter over the replicas of a service."""
        return sum(value(samples(replica), metric) for replica in self.services[name])


@asynccontextmanager
async def replicas(folder: Path, nats_url: str, count: int, *, of_broker: int = 1) -> AsyncIterator[Replicas]:
    """Start ``count`` of each service, and stop them at the end.

    Args:
        nats_url: The broker, or the nodes of a cluster.
        of_broker: Nodes that keep each event and artifact.
    """
    shared = {"LABELLOOP_NATS_URL": nats_url, "LABELLOOP_REPLICAS": str(of_broker)}
    services: dict[str, list[Service]] = {}
    async with AsyncExitStack() as stack:
        for name in SERVICES:
            services[name] = [
                _service(name, folder / str(number), shared | _peers(services, number)) for number in range(count)
            ]
            for replica in services[name]:
                stack.push_async_callback(replica.stop)
            await asyncio.gather(*(replica.start() for replica in services[name]))
        trainer, scorer, oracle = (services[name][0].address for name in ("trainer", "scorer", "oracle"))
        endpoints = Endpoints(trainer=trainer, scorer=scorer, oracle=oracle)
        yield Replicas(services, await stack.enter_async_context(connect(endpoints)))


def _service(name: str, folder: Path, environment: Mapping[str, str]) -> Service:
    folder.mkdir(parents=True, exist_ok=True)
    return service(name, folder, {"LABELLOOP_CACHE_DIR": str(folder / "cache"), **environment})


def _peers(services: Mapping[str, list[Service]], number: int) -> dict[str, str]:
    """Return the addresses that a trainer needs, once the others are up: all scorers, and one of the oracles."""
    if set(services) != {"scorer", "oracle"}:
        return {}
    scorers = ",".join(scorer.address for scorer in services["scorer"])
    return {"LABELLOOP_SCORER": f"ipv4:{scorers}", "LABELLOOP_ORACLE": services["oracle"][number].address}
