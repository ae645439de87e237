"""A new authority takes over while both are trusted: nobody is away, and nobody restarts."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from labelloop.eventlog.connection import connect
from labelloop.rpc.renewed_channel import RenewedChannel
from labelloop.rpc.server import CHANNEL_OPTIONS, Server
from labelloop.rpc.tls import channel
from labelloop.settings import ServiceSettings
from labelloop_cli.local.certificates import Pair, authority, issue
from labelloop_cli.local.nats.port import HOST
from labelloop_cli.operations import keys
from nats.aio.client import Client

from tests.integration.one_oracle import until
from tests.integration.production_broker import Access, Node, new_enough, running, three_nodes
from tests.integration.test_key_rotation import connects_again
from tests.patience import PATIENCE_S

DAY = timedelta(days=1)
LOOK_EVERY_S = 0.05
SERVICES = ("nats", "trainer", "scorer")


class Secrets:
    """What the cluster projects into each service's folder: its certificate, and the authorities to trust."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.old, self.new = authority(DAY), authority(DAY)
        for name in SERVICES:
            self.renew(name, self.old)
            self.trust(name, current=self.old)

    def folder(self, name: str) -> Path:
        return self._folder / name

    def renew(self, name: str, by: Pair) -> None:
        folder = self.folder(name)
        folder.mkdir(parents=True, exist_ok=True)
        pair = issue(by, name, [HOST, "localhost"], DAY)
        for file, content in (
            ("ca.crt", by.certificate_pem),
            ("tls.crt", pair.certificate_pem),
            ("tls.key", pair.key_pem),
        ):
            (folder / file).write_bytes(content)

    def trust(self, name: str, **authorities: Pair) -> None:
        folder = self.folder(name) / "authorities"
        folder.mkdir(exist_ok=True)
        for path in folder.iterdir():
            path.unlink()
        for kind, pair in authorities.items():
            (folder / f"{kind}.crt").write_bytes(pair.certificate_pem)


@dataclass(frozen=True)
class Joined(Access):
    """Certificates that `labelloop keys follow` hands to one node."""

    into: Path

    @property
    def environment(self) -> dict[str, str]:
        files = {"CERT": "tls.crt", "KEY": "tls.key", "CA": "ca.crt"}
        return super().environment | {f"NATS_TLS_{what}": f"{self.into}/current/{file}" for what, file in files.items()}


@pytest.fixture
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Secrets:
    monkeypatch.setattr(RenewedChannel, "look_every_s", 0.0)
    return Secrets(tmp_path / "secrets")


@contextmanager
def followed(secrets: Secrets, node: Node) -> Iterator[None]:
    """Run the sidecar of a node, from before it starts."""
    assert isinstance(node.access, Joined)
    into, stop = node.access.into, threading.Event()
    into.mkdir()
    arguments = (secrets.folder("nats"), into, node.pid_file, LOOK_EVERY_S, stop)
    sidecar = threading.Thread(target=keys.follow, args=arguments)
    sidecar.start()
    try:
        yield
    finally:
        stop.set()
        sidecar.join()


@pytest.fixture
async def nodes(nats_binary: Path, tmp_path: Path, secrets: Secrets) -> AsyncIterator[list[Node]]:
    made = three_nodes(new_enough(nats_binary, tmp_path / "packages"), tmp_path, tls=True)
    for node in made:
        access = node.access
        node.access = Joined(access.folder, access.config, tls=True, into=tmp_path / f"joined-{node.name}")
    with followed(secrets, made[0]), followed(secrets, made[1]), followed(secrets, made[2]):
        await until(lambda: all((tmp_path / f"joined-{node.name}" / "current").exists() for node in made))
        with running(made):
            for node in made:
                await node.ready()
            yield made


@pytest.fixture
async def scorer(secrets: Secrets) -> AsyncIterator[str]:
    server = Server(ServiceSettings(tls_dir=secrets.folder("scorer")), "test")
    await server.start()
    await server.ready()
    yield f"{HOST}:{server.port}"
    await server.stop()


async def check(way: Any) -> None:
    stub: Any = health_pb2_grpc.HealthStub(way)
    await stub.Check(health_pb2.HealthCheckRequest(), timeout=5)


async def all_connect(secrets: Secrets, nodes: list[Node], scorer: str) -> None:
    """Make new connections between all of them."""
    async with channel(scorer, secrets.folder("trainer"), CHANNEL_OPTIONS) as way:
        await check(way)
    for node in nodes:
        for name in ("trainer", "scorer"):
            await (await connected(secrets, node, name)).close()


async def connected(secrets: Secrets, node: Node, name: str) -> Client:
    async with asyncio.timeout(5):
        return await connect(node.url, name, tls_dir=secrets.folder(name), nkey_file=node.access.seed(name))


async def has_routes(node: Node) -> bool:
    """Return whether a node is connected to both others."""
    return len({each["remote_id"] for each in (await node.monitor("routez"))["routes"]}) == 2


async def eventually(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await holds():  # noqa: ASYNC110  # there is no event to wait for
            await asyncio.sleep(LOOK_EVERY_S)


async def restarted(node: Node) -> None:
    node.kill()
    node.start()
    await node.ready()
    await eventually(lambda: has_routes(node))


async def shows(node: Node, secrets: Secrets, certificate: bytes) -> bool:
    """Return whether a node shows a new client this certificate (DER)."""
    client = await connected(secrets, node, "trainer")
    transport: Any = client._transport
    found: ssl.SSLObject = transport._io_writer.get_extra_info("ssl_object")
    shown = found.getpeercert(binary_form=True)
    await client.close()
    return shown == certificate


async def test_an_authority_is_replaced_while_everybody_connects(
    secrets: Secrets, nodes: list[Node], scorer: str, tmp_path: Path
) -> None:
    client = await connected(secrets, nodes[0], "trainer")
    async with channel(scorer, secrets.folder("trainer"), CHANNEL_OPTIONS) as way:
        await check(way)
        for name in SERVICES:
            secrets.trust(name, current=secrets.new, previous=secrets.old)
            await all_connect(secrets, nodes, scorer)
        for name in SERVICES:
            secrets.renew(name, secrets.new)
            await all_connect(secrets, nodes, scorer)
            await restarted(nodes[2])  # joins those that have not restarted, whatever they have read so far
        renewed = ssl.PEM_cert_to_DER_cert((secrets.folder("nats") / "tls.crt").read_text())
        for node in nodes:
            await eventually(lambda node=node: shows(node, secrets, renewed))  # type: ignore[misc]
        for name in SERVICES:
            secrets.trust(name, current=secrets.new)
            await all_connect(secrets, nodes, scorer)
        await check(way)  # over the channel that was opened before
        await connects_again(client, nodes[0])  # and the connection of before
    await client.close()
    await the_old_is_refused(secrets, nodes[0], scorer, tmp_path)


async def the_old_is_refused(secrets: Secrets, node: Node, scorer: str, folder: Path) -> None:
    stranger = Secrets(folder / "strangers")
    stranger.renew("trainer", secrets.old)
    stranger.trust("trainer", current=secrets.new)
    await eventually(lambda: is_refused(stranger, node))  # once the node has read its files again
    with pytest.raises(grpc.aio.AioRpcError):
        async with channel(scorer, stranger.folder("trainer"), CHANNEL_OPTIONS) as way:
            await check(way)


async def is_refused(secrets: Secrets, node: Node) -> bool:
    try:
        client = await connected(secrets, node, "trainer")
    except TimeoutError:
        return True
    await client.close()
    return False
