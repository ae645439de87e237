"""Two fake scorers that serve over TLS as the service does, each behind a proxy."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from labelloop.rpc.server import Server
from labelloop.scorer.v1.scorer_pb2_grpc import add_ScorerServiceServicer_to_server
from labelloop.settings import ServiceSettings
from labelloop_cli.operations import keys

from tests.chaos.proxy import Proxy
from tests.integration.scorers import Pool, Scorer, scorer_of
from trainer_svc.scorers.channels import ScorerChannels
from trainer_svc.scorers.client import ScorerClient


@dataclass
class Behind:
    """A client of the scorers, and the proxy in front of each."""

    pool: Pool
    client: ScorerClient
    scorers: list[Scorer]
    ways: list[Proxy]


@asynccontextmanager
async def tls_scorers(pool: Pool, folder: Path, count: int = 2) -> AsyncIterator[Behind]:
    keys.tls(folder / "tls")
    async with AsyncExitStack() as stack:
        made, ways = [], []
        for _ in range(count):
            server, scorer = (
                Server(ServiceSettings(tls_dir=folder / "tls" / "scorer", drain_s=0), "scorer"),
                scorer_of(pool),
            )
            add_ScorerServiceServicer_to_server(scorer, server.grpc)
            await server.start()
            stack.push_async_callback(server.stop)
            made.append(scorer)
            ways.append(await stack.enter_async_context(Proxy(server.port)))
        target = ",".join(f"127.0.0.1:{way.port}" for way in ways)
        replicas = ScorerChannels(target, folder / "tls" / "trainer")
        stack.push_async_callback(replicas.close)
        await replicas.look_up()
        yield Behind(pool, ScorerClient(replicas, pool), made, ways)
