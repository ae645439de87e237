"""The broker's user for backups, as the README has it: what it needs is allowed, and nothing else is."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nats
import pytest
from labelloop.artifacts.store import JetStreamArtifacts
from labelloop.eventlog.connection import connect, signer
from labelloop.eventlog.log import EventLog
from labelloop.eventlog.subjects import ARTIFACT_BUCKET, STREAM
from labelloop_cli.operations.keys import new_nkey
from nats.aio.client import Client

from tests.deploy.rendering import KUBERNETES
from tests.integration.production_broker import CONFIG, CONFIGS, Access, Node, lone_node, new_enough, running

STREAMS = (STREAM, f"OBJ_{ARTIFACT_BUCKET}")
DATA = bytes(range(256)) * 1000


@dataclass
class Backup:
    """As `nats stream backup` makes it: what the server says of the stream, and the pieces of its snapshot."""

    about: dict[str, Any]
    pieces: list[bytes]


@pytest.fixture
def public_and_seed(tmp_path: Path) -> tuple[str, Path]:
    seed, public = new_nkey()
    (tmp_path / "backup.seed").write_bytes(seed)
    return public.decode(), tmp_path / "backup.seed"


def lone_with(public: str, binary: Path, folder: Path) -> Node:
    """A broker with the settings of production and, among its users, the README's."""
    folder.mkdir()
    node = lone_node(binary, folder)
    config = folder / "config"
    shutil.copytree(CONFIGS, config)
    [block] = re.findall(r"```conf\n(.*?)```", (KUBERNETES.parent / "README.md").read_text(), re.DOTALL)
    users, end, rest = (config / "access.conf").read_text().rpartition("  ]\n}")
    (config / "access.conf").write_text(users + block.replace("UPUBLIC", public) + end + rest)
    return replace(node, access=Access(node.access.folder, config / CONFIG.name, tls=False))


@asynccontextmanager
async def connected(node: Node, seed: Path) -> AsyncIterator[Client]:
    """As the nats command does it: with inboxes of no special name."""

    async def ignore(_: Exception) -> None:
        """What is forbidden is told here and to nobody who asks."""

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
        if piece.reply:  # it waits for that before it sends more
            await client.publish(piece.reply, b"")
    return Backup({"config": about["config"], "state": about["state"]}, found)


async def restore(client: Client, backup: Backup) -> None:
    name = backup.about["config"]["name"]
    asked = await client.request(f"$JS.API.STREAM.RESTORE.{name}", json.dumps(backup.about).encode())
    to = json.loads(asked.data)["deliver_subject"]
    for piece in backup.pieces:
        await client.request(to, piece, timeout=5)
    done = json.loads((await client.request(to, b"", timeout=5)).data)
    assert "error" not in done, done


async def is_refused(client: Client, subject: str) -> bool:
    try:
        await client.request(subject, b"{}", timeout=0.5)
    except nats.errors.TimeoutError:
        return True
    return False


async def test_what_is_backed_up_is_there_again_on_an_empty_broker(
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


async def write(node: Node) -> str:
    """An event and an artifact, whose digest it gives."""
    oracle = await connect(node.url, "oracle", nkey_file=node.access.seed("oracle"))
    await EventLog(oracle).ensure_stream()
    await oracle.jetstream().publish("labelloop.v1.lost.0.pool_published", b"pool")
    digest = await JetStreamArtifacts(oracle).put(DATA)
    await oracle.close()
    return digest


async def test_it_may_not_write_change_or_remove_anything(
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
