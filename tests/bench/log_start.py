"""What a start costs: time and memory to read the log of many runs, for each service."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from labelloop.eventlog.connection import connect
from labelloop.events.v1.events_pb2 import Event
from labelloop_cli.local.nats.binary import find_or_get
from labelloop_cli.local.nats.server import NatsServer
from platformdirs import user_cache_path

from tests.bench.log_events import fill, run_events
from tests.bench.log_reader import SERVICES

_BATCH = 50
_READY_WITHIN_S = 10.0
_MB_MAX = 200.0
_LIVE_MB_MAX = 500.0


async def log_start() -> dict[str, Any]:
    """Measure the start of each service over ended runs, LABELLOOP_BENCH_RUNS of LABELLOOP_BENCH_LABELS labels each."""
    runs = int(os.environ.get("LABELLOOP_BENCH_RUNS", "200"))
    labels = int(os.environ.get("LABELLOOP_BENCH_LABELS", "480"))
    ended = chain.from_iterable(run_events(f"run-{i}", labels, _BATCH, ended=True) for i in range(runs))
    result = await _starts(ended)
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


async def _starts(events: Iterator[Event]) -> dict[str, Any]:
    with TemporaryDirectory() as folder:
        async with NatsServer(find_or_get(user_cache_path("labelloop")), Path(folder) / "nats") as server:
            client = await connect(server.url, "bench")
            held = await fill(client, events)
            await client.close()
            return {"events": held, "services": {name: await _start(name, server.url) for name in SERVICES}}


async def _start(service: str, url: str) -> dict[str, float]:
    """Read the log in a process of its own, as ``service`` does."""
    command = (sys.executable, "-m", "tests.bench.log_reader", service, url)
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"reading as {service} failed with exit code {process.returncode}")
    return {key: float(value) for key, value in json.loads(output).items()}
