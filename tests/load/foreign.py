"""h2load, a load generator in C: it offers more than a client in Python can. It does not read gRPC's statuses."""

from __future__ import annotations

import asyncio
import math
import os
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from labelloop.errors import Corrupt
from labelloop_cli.load.calls import Calls
from platformdirs import user_cache_path

from tests.bench.h2load_program import Program, find_or_get

_CLIENTS = 16
_GRPC = ("-H", "content-type: application/grpc", "-H", "te: trailers")


@dataclass(frozen=True)
class Foreign:
    """What h2load reports: calls that got any answer, and how many a second."""

    calls: int
    rate_s: float


async def program() -> Program:
    """Find or get h2load; NotFound if neither works."""
    return await asyncio.to_thread(find_or_get, user_cache_path("labelloop"))


async def by_count(tool: Program, address: str, calls: Calls, count: int) -> Foreign:
    """Send the first request ``count`` times, as fast as it is answered."""
    return await _run(tool, address, calls, "-n", str(count), "-c", str(_CLIENTS), "-m", "4")


async def for_seconds(tool: Program, address: str, calls: Calls, seconds: float) -> Foreign:
    """Repeat the first request, as fast as it is answered."""
    return await _run(tool, address, calls, "-D", str(math.ceil(seconds)), "-c", str(_CLIENTS), "-m", "4")


async def by_rate(tool: Program, address: str, calls: Calls, rate_s: float, seconds: float) -> Foreign:
    """Send ``rate_s`` calls a second, answered or not."""
    each = max(1, round(rate_s / _CLIENTS))
    words = ("-n", str(int(each * _CLIENTS * seconds)), "-c", str(_CLIENTS), "-m", "1000", f"--rps={each}")
    return await _run(tool, address, calls, *words)


async def _run(tool: Program, address: str, calls: Calls, *words: str) -> Foreign:
    with TemporaryDirectory() as folder:
        body = Path(folder) / "body"
        body.write_bytes(b"\0" + struct.pack(">I", len(calls.bodies[0])) + calls.bodies[0])
        process = await asyncio.create_subprocess_exec(
            *(tool.path, *words, *_GRPC, "-d", str(body), f"http://{address}{calls.path}"),
            env={**os.environ, **tool.environment},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            said = (await process.communicate())[0].decode(errors="replace")
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    done, rate = re.search(r"(\d+) succeeded", said), re.search(r"([\d.]+) req/s", said)
    if not done or not rate:
        raise Corrupt("H2LOAD_FAILED", "h2load did not do its work; it says:\n" + said)
    return Foreign(int(done[1]), float(rate[1]))
