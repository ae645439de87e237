"""Services authenticate to the broker by NKeys, also after a key was replaced."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from labelloop.eventlog.connection import connect
from labelloop.eventlog.nkey import UserKey, new_seed

from tests.integration.one_oracle import until
from tests.integration.production_broker import Access, Node, access, free_ports, running

CONFIG = """
listen: $NATS_LISTEN
http: $NATS_MONITOR_LISTEN
authorization: { users: [{ nkey: $NATS_NKEY_SCORER }] }
"""


@pytest.fixture
def node(nats_binary: Path, tmp_path: Path) -> Node:
    """A broker of any version that admits only the scorer, not started yet."""
    config = tmp_path / "nats-server.conf"
    config.write_text(CONFIG)
    made = access(tmp_path / "access")
    port, monitor_port = free_ports(2)
    lets_in = Access(made.folder, config, tls=False)
    return Node(nats_binary, lets_in, "alone", tmp_path / "alone", port, monitor_port, 0, "[]")


@pytest.fixture
async def running_node(node: Node) -> AsyncIterator[Node]:
    with running([node]):
        await node.ready()
        yield node


async def test_only_a_user_whose_key_the_broker_knows_is_admitted(running_node: Node) -> None:
    client = await connect(running_node.url, "scorer", nkey_file=running_node.access.seed("scorer"))
    assert client.is_connected
    await client.close()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await connect(running_node.url, "oracle", nkey_file=running_node.access.seed("oracle"))


@pytest.mark.parametrize("meanwhile", [None, b"half a sec"], ids=["at once", "behind an unusable one"])
async def test_a_client_uses_a_replaced_key_without_a_restart(meanwhile: bytes | None, running_node: Node) -> None:
    node, seed = running_node, running_node.access.seed("scorer")
    client = await connect(node.url, "scorer", nkey_file=seed)
    node.kill()
    replacement = new_seed()
    seed.write_bytes(replacement if meanwhile is None else meanwhile)
    seed.with_suffix(".public").write_text(UserKey(replacement).public)
    node.start()
    await node.ready()
    if meanwhile is not None:
        await until(lambda: "cannot be used" in str(client.last_error))
        seed.write_bytes(replacement)
    await until(lambda: client.is_connected)
    await client.close()
