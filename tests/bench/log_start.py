"""What a start costs: time and memory to read the log of many runs, for each service."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import chain
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from labelloop.eventlog.connection import connect, jetstream
from labelloop.eventlog.log import EventLog
from labelloop.eventlog.subjects import STREAM
from labelloop.events.v1.events_pb2 import Event, RunArchived
from labelloop.trainer.v1.trainer_pb2 import RunStatus
from labelloop_cli.local.nats.binary import find_or_get
from labelloop_cli.local.nats.server import NatsServer
from nats.aio.client import Client
from platformdirs import user_cache_path

from tests.bench.log_events import fill, run_events
from tests.bench.log_reader import SERVICES

_BATCH = 50
_READY_WITHIN_S = 10.0
_MB_MAX = 200.0
_LIVE_MB_MAX = 500.0
_LIVE_RUNS, _LIVE_LABELS = 20, 500


async def log_start() -> dict[str, Any]:
    """Measure the start of each service from a snapshot of the log, and without one.

    The log has LABELLOOP_BENCH_RUNS ended runs of LABELLOOP_BENCH_LABELS labels each, none of them archived, and 20
    that go on.
    """
    runs = int(os.environ.get("LABELLOOP_BENCH_RUNS", "200"))
    labels = int(os.environ.get("LABELLOOP_BENCH_LABELS", "480"))
    ended = chain.from_iterable(run_events(f"run-{i}", labels, _BATCH, ended=True) for i in range(runs))
    live = chain.from_iterable(run_events(f"live-{i}", _LIVE_LABELS, _BATCH, ended=False) for i in range(_LIVE_RUNS))
    result = await _starts(chain(ended, live), again=True)
    worst_s = max(each["seconds"] for each in result["services"].values())
    worst_mb = max(each["mb"] for each in result["services"].values())
    return {
        "value": worst_s,
        "unit": "s until the slowest service has read the log",
        "target": f"within {_READY_WITHIN_S:.0f} s and {_MB_MAX:.0f} MB",
        "met": worst_s <= _READY_WITHIN_S and worst_mb <= _MB_MAX,
        "detail": {"runs": runs, "labels": labels, **result},
    }


async def live_memory() -> dict[str, Any]:
    """Measure the memory that each service takes for one unfinished run of 100,000 labels."""
    result = await _starts(run_events("live", 100_000, 1_000, ended=False))
    worst = max(each["mb"] for each in result["services"].values())
    return {
        "value": worst,
        "unit": "MB of the service that takes most, for a run of 100,000 labels",
        "target": f"under {_LIVE_MB_MAX:.0f} MB",
        "met": worst < _LIVE_MB_MAX,
        "detail": result,
    }


async def archived_log() -> dict[str, Any]:
    """Measure the start of each service over a million events of 2,000 archived runs, and 20 runs that go on."""
    runs = int(os.environ.get("LABELLOOP_BENCH_RUNS", "2000"))
    labels = int(os.environ.get("LABELLOOP_BENCH_LABELS", "480"))
    async with _broker() as (server, client):
        purges_s = await _write_archived(client, runs, labels)
        live = (run_events(f"live-{i}", _LIVE_LABELS, _BATCH, ended=False) for i in range(_LIVE_RUNS))
        events = await fill(client, chain.from_iterable(live))
        state = (await jetstream(client).stream_info(STREAM)).state
        with TemporaryDirectory() as folder:
            services = {name: await _start(name, server.url, folder) for name in SERVICES}
    worst_s, worst_mb = (max(each[key] for each in services.values()) for key in ("seconds", "mb"))
    return {
        "value": worst_s,
        "unit": f"s until the slowest service has read the log of {events} events",
        "target": f"within {_READY_WITHIN_S:.0f} s and {_MB_MAX:.0f} MB",
        "met": worst_s <= _READY_WITHIN_S and worst_mb <= _MB_MAX,
        "detail": {
            "archived_runs": runs,
            "events": events,
            "messages": state.messages,
            "stream_mb": state.bytes / 1e6,
            "purge_ms": {"median": 1e3 * median(purges_s), "max": 1e3 * max(purges_s)},
            "services": services,
        },
    }


async def _write_archived(client: Client, runs: int, labels: int) -> list[float]:
    """Write runs, archive and purge each, and return the seconds of each purge."""
    log, purges_s = EventLog(client), []
    events = list(run_events("template", labels, _BATCH, ended=True))
    facts = RunArchived(archive_sha256="a" * 64, event_count=len(events), last_sequence=1, model_sha256="a" * 64)
    facts.pool.CopyFrom(events[1].pool_published)
    status = RunStatus(spec=events[0].run_started.spec, pool=facts.pool, labels_paid=labels)
    for number in range(runs):
        run_id = status.run_id = f"run-{number}"
        facts.status = status.SerializeToString()
        for event in events:
            event.run_id = run_id
        last = await fill(client, iter([*events, Event(run_id=run_id, run_archived=facts)]))
        start = time.perf_counter()
        await log.purge_archived(run_id, last)
        purges_s.append(time.perf_counter() - start)
    return purges_s


async def _starts(events: Iterator[Event], *, again: bool = False) -> dict[str, Any]:
    """Start each service without a snapshot, and ``again`` from the one that it took then."""
    async with _broker() as (server, client):
        held = await fill(client, events)
        with TemporaryDirectory() as folder:
            first = {name: await _start(name, server.url, folder) for name in SERVICES}
            if not again:
                return {"events": held, "services": first}
            services = {name: await _start(name, server.url, folder) for name in SERVICES}
            return {"events": held, "services": services, "without_snapshot": first}


@asynccontextmanager
async def _broker() -> AsyncIterator[tuple[NatsServer, Client]]:
    with TemporaryDirectory() as folder:
        async with NatsServer(find_or_get(user_cache_path("labelloop")), Path(folder) / "nats") as server:
            client = await connect(server.url, "bench")
            try:
                yield server, client
            finally:
                await client.close()


async def _start(service: str, url: str, folder: str) -> dict[str, float]:
    """Read the log in a process of its own, as ``service`` does."""
    command = (sys.executable, "-m", "tests.bench.log_reader", service, url, folder)
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"reading as {service} failed with exit code {process.returncode}")
    figures = output.splitlines()[-1]  # behind what was logged
    return {key: float(value) for key, value in json.loads(figures).items()}
