"""Three nats-servers on the loopback as a JetStream cluster, with a proxy on each route between nodes."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import chain, permutations
from pathlib import Path

from labelloop.eventlog.connection import jetstream
from labelloop.eventlog.retry import retry_while_away
from labelloop.eventlog.subjects import STREAM
from labelloop_cli.local.nats.port import HOST, greets
from nats.aio.client import Client

from tests.chaos.proxy import Proxy
from tests.patience import PATIENCE_S
from tests.ports import free_port

NAMES = ("n1", "n2", "n3")


@dataclass
class Node:
    """A nats-server of the cluster; ``routes`` are the proxies that lead to the others."""

    name: str
    binary: Path
    folder: Path
    port: int = field(default_factory=free_port)
    cluster_port: int = field(default_factory=free_port)
    routes: list[str] = field(default_factory=list)
    process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"nats://{HOST}:{self.port}"

    async def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "nats.conf"
        # Nodes advertise an unused address, so that they connect through the proxies only.
        config.write_text(
            f'server_name: {self.name}\nlisten: "{HOST}:{self.port}"\n'
            f'jetstream {{ store_dir: "{self.folder}", max_file_store: 1TB }}\n'
            f'cluster {{ name: test, listen: "{HOST}:{self.cluster_port}", no_advertise: true, '
            f'cluster_advertise: "{HOST}:1", routes: [{", ".join(self.routes)}] }}\n'
        )
        with (self.folder / "log").open("ab") as output:
            self.process = await asyncio.create_subprocess_exec(
                self.binary, "--config", config, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output
            )
        async with asyncio.timeout(PATIENCE_S):
            while not await greets(self.port):
                assert self.process.returncode is None, (self.folder / "log").read_text()[-2000:]
                await asyncio.sleep(0.02)

    async def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self.process and self.process.returncode is None:
            os.kill(self.process.pid, how)
            await self.process.wait()


@dataclass(frozen=True)
class Cluster:
    """``ways`` holds the proxies between each two nodes, of both directions, by the nodes' names."""

    nodes: dict[str, Node]
    ways: dict[frozenset[str], list[Proxy]]

    @property
    def url(self) -> str:
        return ",".join(node.url for node in self.nodes.values())

    async def leader(self, client: Client, *, other_than: str = "") -> str:
        """Return the leader of the log's stream, once it is a node ``other_than`` the named one."""
        js = jetstream(client)
        while True:
            info = await retry_while_away(lambda: js.stream_info(STREAM))
            if info.cluster and info.cluster.leader not in (None, "", other_than):
                return str(info.cluster.leader)
            await asyncio.sleep(0.02)

    async def whole(self, client: Client) -> None:
        """Wait until every node has the whole log."""
        js = jetstream(client)
        while True:
            info = await retry_while_away(lambda: js.stream_info(STREAM))
            replicas = info.cluster.replicas if info.cluster else None
            if replicas and all(replica.current for replica in replicas):
                return
            await asyncio.sleep(0.05)

    def cut_off(self, *names: str) -> None:
        """Cut each of these nodes off from all others."""
        for pair, ways in self.ways.items():
            for way in ways if pair & set(names) else ():
                way.cut_off()

    def heal(self) -> None:
        for way in chain(*self.ways.values()):
            way.heal()


@asynccontextmanager
async def cluster(binary: Path, folder: Path) -> AsyncIterator[Cluster]:
    nodes = {name: Node(name, binary, folder / name) for name in NAMES}
    ways: defaultdict[frozenset[str], list[Proxy]] = defaultdict(list)
    async with AsyncExitStack() as stack:
        for nearer, farther in permutations(nodes.values(), 2):
            way = await stack.enter_async_context(Proxy(farther.cluster_port))
            nearer.routes.append(f'"nats://{HOST}:{way.port}"')
            ways[frozenset({nearer.name, farther.name})].append(way)
        for node in nodes.values():
            stack.push_async_callback(node.stop)
        await asyncio.gather(*(node.start() for node in nodes.values()))
        yield Cluster(nodes, ways)
