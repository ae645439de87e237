"""How long a cluster has no leader after its leader is killed."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from labelloop.eventlog.conditional_publish import publish_once
from labelloop.eventlog.connection import connect
from labelloop.eventlog.log import EventLog
from labelloop.eventlog.subjects import PREFIX
from labelloop_cli.local.nats.binary import find_or_get
from nats.aio.client import Client
from nats.errors import Error as NatsError
from platformdirs import user_cache_path

from tests.chaos.cluster import Cluster, cluster

_KILLS = 10
_TARGET_S = 6.0
_TRY_S = 0.1


async def new_leader() -> dict[str, Any]:
    """Measure the time from SIGKILL of the log's leader, one of three nodes, to the next stored event."""
    binary = await asyncio.to_thread(find_or_get, user_cache_path("labelloop"))
    with TemporaryDirectory() as folder:
        async with cluster(binary, Path(folder)) as nodes:
            client = await connect(nodes.url, "bench")
            try:
                await EventLog(client).ensure_stream(replicas=3)
                seconds = [await _without_leader_s(nodes, client) for _ in range(_KILLS)]
            finally:
                await client.close()
    return {
        "value": max(seconds),
        "unit": f"s, the longest of {_KILLS}",
        "target": f"within {_TARGET_S:.0f} s",
        "met": max(seconds) <= _TARGET_S,
        "detail": {"p50_s": median(seconds), "seconds": sorted(seconds)},
    }


async def _without_leader_s(nodes: Cluster, client: Client) -> float:
    """Return the time until an event is stored: a leader has to accept writes."""
    dead = nodes.nodes[await nodes.leader(client)]
    await dead.stop(signal.SIGKILL)
    begin = time.perf_counter()
    await _write(client, f"{PREFIX}.bench.0.{dead.name}.{begin}")
    seconds = time.perf_counter() - begin
    await dead.start()
    await nodes.whole(client)
    return seconds


async def _write(client: Client, subject: str) -> None:
    js = client.jetstream(timeout=_TRY_S)
    while True:
        try:
            await publish_once(js, subject, b"")
            return
        except NatsError:  # no leader yet
            await asyncio.sleep(_TRY_S)
