"""The README's broker user for backups: it may do what backups need, and may not write, change or remove."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nats
import nats.js.errors
import pytest
from labelloop.artifacts.store import JetStreamArtifacts
from labelloop.eventlog.connection import connect, signer
from labelloop.eventlog.log import EventLog
from labelloop.eventlog.subjects import ARTIFACT_BUCKET, STREAM
from labelloop_cli.operations.keys import new_nkey
from nats.aio.client import Client

from tests.deploy.rendering import KUBERNETES
from tests.integration.production_broker import (
    CONFIG,
    CONFIGS,
    Access,
    Node,
    lone_node,
    new_enough,
    running,
    three_nodes,
)

STREAMS = (STREAM, f"OBJ_{ARTIFACT_BUCKET}")
DATA = bytes(range(256)) * 1000


@dataclass
class Backup:
    """A backup as of `nats stream backup`: the server's description of a stream, and the pieces of its snapshot."""

    about: dict[str, Any]
    pieces: list[bytes]


@pytest.fixture
def public_and_seed(tmp_path: Path) -> tuple[str, Path]:
    seed, public = new_nkey()
    (tmp_path / "backup.seed").write_bytes(seed)
    return public.decode(), tmp_path / "backup.seed"


def lone_with(public: str, binary: Path, folder: Path) -> Node:
    """Return a broker with production settings whose users include the README's."""
    folder.mkdir()
    node = lone_node(binary, folder)
    return replace(node, access=access_with(public, node, folder / "config"))


def access_with(public: str, node: Node, config: Path) -> Access:
    shutil.copytree(CONFIGS, config)
    [block] = re.findall(r"```conf\n(.*?)```", (KUBERNETES.parent / "README.md").read_text(), re.DOTALL)
    users, end, rest = (config / "access.conf").read_text().rpartition("  ]\n}")
    (config / "access.conf").write_text(users + block.replace("UPUBLIC", public) + end + rest)
    return Access(node.access.folder, config / CONFIG.name, tls=False)


def three_with(public: str, binary: Path, folder: Path) -> list[Node]:
    """Return three nodes of that kind, which share their keys."""
    folder.mkdir()
    nodes = three_nodes(binary, folder)
    access = access_with(public, nodes[0], folder / "config")
    return [replace(node, access=access) for node in nodes]


@asynccontextmanager
async def connected(node: Node, seed: Path) -> AsyncIterator[Client]:
    """Connect as the nats command does: with inboxes of the default name."""

    async def ignore(_: Exception) -> None:
        """Ignore a refusal: the server reports it here, and not to the caller."""

    client = Client()
    await client.connect(node.url, signature_cb=signer(client, seed), error_cb=ignore)
    try:
        yield client
    finally:
        await client.close()


async def backed_up(client: Client, stream: str) -> Backup:
    inbox = client.new_inbox()
    pieces = await client.subscribe(inbox)
    asked = json.dumps({"deliver_subject": inbox, "no_consumers": True, "chunk_size": 64 * 1024})
    about = json.loads((await client.request(f"$JS.API.STREAM.SNAPSHOT.{stream}", asked.encode())).data)
    assert "error" not in about, about
    found = []
    while (piece := await pieces.next_msg(timeout=5)).data:
        found.append(piece.data)
        if piece.reply:  # the server waits for this before it sends more
            await client.publish(piece.reply, b"")
    return Backup({"config": about["config"], "state": about["state"]}, found)


async def restore(client: Client, backup: Backup) -> None:
    name = backup.about["config"]["name"]
    asked = await client.request(f"$JS.API.STREAM.RESTORE.{name}", json.dumps(backup.about).encode())
    to = json.loads(asked.data)["deliver_subject"]
    for piece in backup.pieces:
        await heard(client, to, piece)
    done = json.loads(await heard(client, to, b""))
    assert "error" not in done, done


async def heard(client: Client, subject: str, data: bytes) -> bytes:
    """Send data once somebody listens, and return the reply.

    In a cluster the node that restores may be another than the client's, which learns of its interest in the subject
    only after the client has been told to send. What reached no listener was not sent, so it may be sent again.
    """
    async with asyncio.timeout(30):
        while True:
            try:
                return (await client.request(subject, data, timeout=5)).data
            except nats.errors.NoRespondersError:
                await asyncio.sleep(0.01)


async def is_refused(client: Client, subject: str) -> bool:
    try:
        await client.request(subject, b"{}", timeout=0.5)
    except nats.errors.TimeoutError:
        return True
    return False


async def test_a_backup_restores_events_and_artifacts_on_an_empty_broker(
    nats_binary: Path, tmp_path: Path, public_and_seed: tuple[str, Path]
) -> None:
    public, seed = public_and_seed
    binary = new_enough(nats_binary, tmp_path / "packages")
    lost, empty = (lone_with(public, binary, tmp_path / name) for name in ("lost", "empty"))
    with running([lost, empty]):
        await lost.ready()
        await empty.ready()
        digest = await write(lost)
        async with connected(lost, seed) as client:
            backups = [await backed_up(client, stream) for stream in STREAMS]
        async with connected(empty, seed) as client:
            for backup in backups:
                await restore(client, backup)
        trainer = await connect(empty.url, "trainer", nkey_file=empty.access.seed("trainer"))
        assert await JetStreamArtifacts(trainer).get(digest) == DATA
        assert (await trainer.jetstream().stream_info(STREAM)).state.messages == 1
        await trainer.close()


async def test_a_backup_of_one_node_restores_on_three(
    nats_binary: Path, tmp_path: Path, public_and_seed: tuple[str, Path]
) -> None:
    """The way from one node to three: the services then ask for as many copies."""
    public, seed = public_and_seed
    binary = new_enough(nats_binary, tmp_path / "packages")
    lone, three = lone_with(public, binary, tmp_path / "lone"), three_with(public, binary, tmp_path / "three")
    with running([lone, *three]):
        await asyncio.gather(*(node.ready() for node in (lone, *three)))
        digest = await write(lone)
        async with connected(lone, seed) as client:
            backups = [await backed_up(client, stream) for stream in STREAMS]
        async with connected(three[0], seed) as client:
            for backup in backups:
                await restore(client, backup)
        trainer = await connect(three[1].url, "trainer", nkey_file=three[1].access.seed("trainer"))
        await EventLog(trainer).ensure_stream(3)
        assert (await trainer.jetstream().stream_info(STREAM)).config.num_replicas == 3
        assert await JetStreamArtifacts(trainer).get(digest) == DATA
        await trainer.close()


async def test_three_nodes_do_not_see_what_one_wrote_for_itself(nats_binary: Path, tmp_path: Path) -> None:
    """Why that way is a move: on the store of a node that stood alone, a cluster begins with nothing."""
    nodes = three_nodes(new_enough(nats_binary, tmp_path / "packages"), tmp_path)
    alone = replace(nodes[0], routes="[]", cluster_port=0)
    with running([alone]):
        await alone.ready()
        await write(alone)
    with running(nodes):
        await asyncio.gather(*(node.ready() for node in nodes))
        trainer = await connect(nodes[0].url, "trainer", nkey_file=nodes[0].access.seed("trainer"))
        with pytest.raises(nats.js.errors.NotFoundError):
            await trainer.jetstream().stream_info(STREAM)
        await trainer.close()


async def write(node: Node) -> str:
    """Write an event and an artifact, and return the artifact's digest."""
    oracle = await connect(node.url, "oracle", nkey_file=node.access.seed("oracle"))
    await EventLog(oracle).ensure_stream()
    await oracle.jetstream().publish("labelloop.v1.lost.0.pool_published", b"pool")
    digest = await JetStreamArtifacts(oracle).put(DATA)
    await oracle.close()
    return digest


async def test_the_backup_user_may_not_publish_update_delete_or_purge(
    nats_binary: Path, tmp_path: Path, public_and_seed: tuple[str, Path]
) -> None:
    public, seed = public_and_seed
    node = lone_with(public, new_enough(nats_binary, tmp_path / "packages"), tmp_path / "lost")
    with running([node]):
        await node.ready()
        await write(node)
        async with connected(node, seed) as client:
            assert not await is_refused(client, f"$JS.API.STREAM.INFO.{STREAM}")
            for subject in (
                "labelloop.v1.lost.0.label.1.0",
                f"$JS.API.STREAM.DELETE.{STREAM}",
                f"$JS.API.STREAM.PURGE.{STREAM}",
                f"$JS.API.STREAM.UPDATE.{STREAM}",
            ):
                assert await is_refused(client, subject), subject
