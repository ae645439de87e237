"""Services as processes whose metrics and structured logs tests can read."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labelloop_cli.clients import Clients, Endpoints, connect
from labelloop_cli.local.nats.server import NatsServer
from labelloop_cli.local.stack import Service
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from tests.patience import PATIENCE_S

SCORER_METHODS = ("RankPool", "Score")


@dataclass(frozen=True)
class Watched:
    services: Mapping[str, Service]
    clients: Clients

    def lines(self, name: str) -> list[dict[str, Any]]:
        """Return what a service has logged so far."""
        return list(log_lines(self.services[name]))

    def metrics_address(self, name: str) -> str:
        return metrics_address(self.services[name])

    def samples(self, name: str) -> list[Sample]:
        return samples(self.services[name])


def log_lines(service: Service) -> Iterator[dict[str, Any]]:
    for line in service.log_file.read_text().splitlines():
        if line.startswith("{"):  # gRPC's core logs plain text
            yield json.loads(line)


def metrics_address(service: Service) -> str:
    """Return HOST:PORT of the metrics of the service's newest process."""
    served = [line for line in log_lines(service) if line["event"] == "metrics"]
    return f"{served[-1]['host']}:{served[-1]['port']}"


def page(service: Service) -> str:
    with urllib.request.urlopen(f"http://{metrics_address(service)}/metrics", timeout=PATIENCE_S) as answer:
        text: str = answer.read().decode()
    return text


def samples(service: Service) -> list[Sample]:
    return [sample for family in text_string_to_metric_families(page(service)) for sample in family.samples]


def value(found: Iterable[Sample], name: str, **labels: str) -> float:
    """Return the sum of the samples of ``name`` with these labels. Raise AssertionError if there are none."""
    values = [each.value for each in found if each.name == name and labels.items() <= each.labels.items()]
    assert values, f"there is no {name} with {labels}"
    return sum(values)


def service(name: str, folder: Path, environment: Mapping[str, str]) -> Service:
    """Return a service, not started yet, that serves metrics on a free port and logs as JSON."""
    watched = {"LABELLOOP_METRICS_PORT": "0", "LABELLOOP_LOG_FORMAT": "json"}
    return Service(name, folder, {**watched, **environment})


@asynccontextmanager
async def watched(
    folder: Path, broker: NatsServer, environment: Mapping[str, str] | None = None
) -> AsyncIterator[Watched]:
    """Start a trainer, a scorer and an oracle, and stop them at the end."""
    shared = {"LABELLOOP_NATS_URL": broker.url, "LABELLOOP_CACHE_DIR": str(folder / "cache"), **(environment or {})}
    async with AsyncExitStack() as stack:

        async def up(name: str, **more: str) -> Service:
            made = service(name, folder, {**shared, **more})
            stack.push_async_callback(made.stop)
            await made.start()
            return made

        scorer, oracle = await up("scorer"), await up("oracle")
        trainer = await up("trainer", LABELLOOP_SCORER=scorer.address, LABELLOOP_ORACLE=oracle.address)
        endpoints = Endpoints(trainer=trainer.address, scorer=scorer.address, oracle=oracle.address)
        clients = await stack.enter_async_context(connect(endpoints))
        yield Watched({"trainer": trainer, "scorer": scorer, "oracle": oracle}, clients)
