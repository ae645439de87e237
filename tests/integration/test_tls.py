"""TLS connections: which peers are accepted, by a real server and a real broker."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from labelloop.errors import InvalidInput
from labelloop.eventlog.connection import connect
from labelloop.observability import metrics
from labelloop.rpc.server import CHANNEL_OPTIONS, Server
from labelloop.rpc.tls import channel
from labelloop.settings import ServiceSettings
from labelloop_cli.local.certificates import Pair, authority, issue
from nats.errors import Error as NatsError
from prometheus_client import generate_latest

from tests.integration.production_broker import new_enough, running, three_nodes

HOST = "127.0.0.1"
DAY = timedelta(days=1)


class Folders:
    """Folders for LABELLOOP_TLS_DIR, of our authority and of a foreign one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.ours, self.strange = authority(DAY), authority(DAY)

    def write(self, name: str, by: Pair, *, trusts: Pair | None = None, lifetime: timedelta = DAY) -> Path:
        folder = self._folder / name
        folder.mkdir(exist_ok=True)
        pair = issue(by, name, [HOST, "localhost"], lifetime)
        (folder / "ca.crt").write_bytes((trusts or self.ours).certificate_pem)
        (folder / "tls.crt").write_bytes(pair.certificate_pem)
        (folder / "tls.key").write_bytes(pair.key_pem)
        return folder


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path)


@asynccontextmanager
async def serving(tls_dir: Path) -> AsyncIterator[str]:
    server = Server(ServiceSettings(tls_dir=tls_dir), "test")
    await server.start()
    await server.ready()
    try:
        yield f"{HOST}:{server.port}"
    finally:
        await server.stop()


@pytest.fixture
async def address(folders: Folders) -> AsyncIterator[str]:
    async with serving(folders.write("server", folders.ours)) as address:
        yield address


async def answers(way: grpc.aio.Channel) -> bool:
    """Return whether a call over the channel succeeds."""
    stub: Any = health_pb2_grpc.HealthStub(way)
    async with way:
        try:
            await stub.Check(health_pb2.HealthCheckRequest(), timeout=5)
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.UNAVAILABLE:
                raise
            return False
    return True


async def test_a_client_of_the_same_authority_is_accepted(address: str, folders: Folders) -> None:
    assert await answers(channel(address, folders.write("client", folders.ours), CHANNEL_OPTIONS))


async def test_a_server_certificate_is_checked_against_the_host_name(address: str, folders: Folders) -> None:
    client = folders.write("client", folders.ours)
    assert await answers(channel(address, client, CHANNEL_OPTIONS, host="localhost"))
    assert not await answers(channel(address, client, CHANNEL_OPTIONS, host="another"))


def without_certificate(folders: Folders, address: str) -> grpc.aio.Channel:
    root = folders.ours.certificate_pem
    return grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(root))


def in_plain_text(folders: Folders, address: str) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(address)


def of_a_stranger(folders: Folders, address: str) -> grpc.aio.Channel:
    return channel(address, folders.write("client", folders.strange), CHANNEL_OPTIONS)


def expired(folders: Folders, address: str) -> grpc.aio.Channel:
    return channel(address, folders.write("client", folders.ours, lifetime=-DAY), CHANNEL_OPTIONS)


@pytest.mark.parametrize("client", [without_certificate, in_plain_text, of_a_stranger, expired])
async def test_clients_without_a_valid_certificate_are_rejected(
    address: str, folders: Folders, client: Callable[[Folders, str], grpc.aio.Channel]
) -> None:
    assert not await answers(client(folders, address))


@pytest.mark.parametrize("what", ["of a stranger", "expired"])
async def test_a_client_rejects_a_foreign_or_expired_server_certificate(folders: Folders, what: str) -> None:
    client = folders.write("client", folders.ours)
    by, lifetime = (folders.strange, DAY) if what == "of a stranger" else (folders.ours, -DAY)
    async with serving(folders.write("server", by, lifetime=lifetime)) as address:
        assert not await answers(channel(address, client, CHANNEL_OPTIONS))


async def test_a_server_uses_renewed_certificates_without_a_restart(folders: Folders) -> None:
    server, client = folders.write("server", folders.ours), folders.write("client", folders.ours)
    async with serving(server) as address:
        first = await shown(address, client)
        folders.write("server", folders.ours)
        second = await shown(address, client)
        (server / "tls.key").write_text("half written")
        third = await shown(address, client)
    assert first != second
    assert second == third == (server / "tls.crt").read_text()


async def test_a_server_with_tls_tells_when_its_certificates_expire(folders: Folders) -> None:
    async with serving(folders.write("server", folders.ours)):
        page = generate_latest(metrics.PAGE).decode()
    assert 'labelloop_certificate_end_seconds{certificate="server"}' in page


async def shown(address: str, client: Path) -> str:
    """Return the certificate that a server presents."""
    context = ssl.create_default_context(cafile=client / "ca.crt")
    context.load_cert_chain(client / "tls.crt", client / "tls.key")
    context.set_alpn_protocols(["h2"])
    host, port = address.split(":")
    _, writer = await asyncio.open_connection(host, int(port), ssl=context)
    found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return ssl.DER_cert_to_PEM_cert(found)


@pytest.mark.parametrize("broken", ["ca.crt", "tls.crt", "tls.key"])
@pytest.mark.parametrize("how", ["missing", "no certificate"])
async def test_the_error_for_an_invalid_tls_folder_names_the_setting(folders: Folders, broken: str, how: str) -> None:
    folder = folders.write("server", folders.ours)
    (folder / broken).unlink() if how == "missing" else (folder / broken).write_text("nonsense")
    with pytest.raises(InvalidInput, match="LABELLOOP_TLS_DIR"):
        await Server(ServiceSettings(tls_dir=folder), "test").start()
    with pytest.raises(InvalidInput, match="LABELLOOP_TLS_DIR"):
        channel("127.0.0.1:1", folder, CHANNEL_OPTIONS)


@pytest.fixture
def brokers(nats_binary: Path, tmp_path: Path) -> Iterator[list[str]]:
    """Yield the URLs of three nodes with TLS."""
    nodes = three_nodes(new_enough(nats_binary, tmp_path / "packages"), tmp_path, tls=True)
    with running(nodes):
        yield [node.url for node in nodes]


async def test_the_broker_requires_both_a_known_certificate_and_a_key(
    brokers: list[str], folders: Folders, tmp_path: Path
) -> None:
    seed, tls_dir = tmp_path / "access" / "nkeys" / "scorer.seed", tmp_path / "access" / "tls" / "scorer"
    stranger = folders.write("stranger", folders.strange, trusts=None)
    (stranger / "ca.crt").write_bytes((tls_dir / "ca.crt").read_bytes())
    for url in brokers:
        client = await connect(url, "scorer", tls_dir=tls_dir, nkey_file=seed)
        assert client.is_connected
        await client.close()
    let_in = await asyncio.gather(
        *(is_let_in(url, *proof) for proof in ((None, seed), (stranger, seed), (tls_dir, None), (tls_dir, seed)))
    )
    assert let_in == [False, False, False, True]


async def is_let_in(url: str, tls_dir: Path | None, nkey_file: Path | None) -> bool:
    try:
        async with asyncio.timeout(2):
            client = await connect(url, "scorer", tls_dir=tls_dir, nkey_file=nkey_file)
    except (NatsError, OSError):  # at once, or by the timeout
        return False
    await client.close()
    return True
