"""A service changes to its next key while the broker and the service's other pods go on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from labelloop.eventlog.connection import connect
from labelloop_cli.operations.keys import new_nkey
from nats.aio.client import Client

from tests.integration.one_oracle import until
from tests.integration.production_broker import Node, lone_node, new_enough, running


@pytest.fixture
async def node(nats_binary: Path, tmp_path: Path) -> AsyncIterator[Node]:
    node = lone_node(new_enough(nats_binary, tmp_path / "packages"), tmp_path)
    with running([node]):
        await node.ready()
        yield node


def exchange(first: Path, second: Path) -> None:
    kept = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(kept)


async def is_let_in(node: Node, seed: Path) -> bool:
    try:
        async with asyncio.timeout(2):
            client = await connect(node.url, "scorer", nkey_file=seed)
    except TimeoutError:
        return False
    await client.close()
    return True


async def connects_again(client: Client, node: Node) -> None:
    """End the connection as the broker would, and wait until the client has another."""
    before = client.stats["reconnects"]
    assert client._transport is not None
    client._transport.close()  # type: ignore[no-untyped-call]
    await until(lambda: client.is_connected and client.stats["reconnects"] > before)


async def test_a_service_changes_its_key_while_pods_with_the_old_one_stay(node: Node, tmp_path: Path) -> None:
    seed = node.access.seed("scorer")
    old = tmp_path / "old.seed"
    old.write_bytes(seed.read_bytes())
    client = await connect(node.url, "scorer", nkey_file=seed)
    for kind in ("seed", "public"):
        exchange(seed.with_suffix(f".{kind}"), seed.with_name(f"scorer-next.{kind}"))
    await connects_again(client, node)  # by the next key, which this broker has known all along
    assert await is_let_in(node, old)  # as pods that have not got the new Secret
    node.kill()
    node.start()  # by itself, in between: it knows the same two
    await node.ready()
    assert await is_let_in(node, seed)
    assert await is_let_in(node, old)
    seed.with_name("scorer-next.public").write_bytes(new_nkey()[1])  # retired: the next pair is a new one
    node.kill()
    node.start()
    await node.ready()
    await until(lambda: client.is_connected)
    assert not await is_let_in(node, old)
    await client.close()
