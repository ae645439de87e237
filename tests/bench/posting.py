"""Load a server with one request, repeated by h2load: a client in C uses so little CPU that the server is the limit.

This is a closed loop with ``IN_FLIGHT`` requests in flight. Latency is mostly time in the queue of the others: it
compares two servers under the same load, and tells little about an idle one.
"""

from __future__ import annotations

import asyncio
import os
import re
import resource
import struct
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from labelloop.errors import Corrupt
from platformdirs import user_cache_path

from tests.bench.cores import busy_s, client_and_server_core, cpu_s, starting_on
from tests.bench.h2load_program import Program, find_or_get

IN_FLIGHT = 16
_STREAMS = 4  # on each HTTP/2 connection; HTTP/1.1 has a connection for each request in flight
_GRPC = {"content-type": "application/grpc", "te": "trailers"}
_FIRST, _WHOLE_S = 512, 2.0


@dataclass(frozen=True)
class Posted:
    """``body`` goes to ``url``. Each response has a body of ``answer_bytes`` bytes, unlike an error.

    ``h1`` selects HTTP/1.1 instead of HTTP/2. ``pid`` is the server's.
    """

    url: str
    headers: dict[str, str]
    body: bytes
    answer_bytes: int
    pid: int
    h1: bool = False


@dataclass(frozen=True)
class Figures:
    """``cpu_us`` is the server's per request; ``client_share`` and ``server_share`` are fractions of a core.

    ``others_share`` is other processes' share of the server's core; the figures mean little if it is large.
    """

    rate_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    server_share: float
    client_share: float
    others_share: float


def grpc_call(address: str, method: str, messages: list[bytes], answer_bytes: list[int], pid: int) -> Posted:
    """Return a gRPC call with these messages and response sizes; ``method`` is /package.Service/Method."""
    body = b"".join(b"\0" + struct.pack(">I", len(message)) + message for message in messages)
    return Posted(f"http://{address}{method}", _GRPC, body, sum(5 + size for size in answer_bytes), pid)


async def measured(posted: Posted, seconds: float = _WHOLE_S, in_flight: int = IN_FLIGHT) -> Figures:
    """Post for about ``seconds`` after a short warm-up; raise Corrupt on a wrong response."""
    program = await asyncio.to_thread(find_or_get, user_cache_path("labelloop"))
    warm = await _run(program, posted, max(in_flight, _FIRST // _message_kib(posted)), in_flight)
    return await _run(program, posted, max(in_flight, int(warm.rate_s * seconds)), in_flight)


def _message_kib(posted: Posted) -> int:
    return max(1, len(posted.body) // 1024)


async def _run(program: Program, posted: Posted, count: int, in_flight: int) -> Figures:
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "body").write_bytes(posted.body)
        words = [program.path, "-n", str(count), "-d", str(folder / "body"), f"--log-file={folder / 'log'}"]
        words += ["--h1", "-c", str(in_flight)] if posted.h1 else _http2(in_flight)
        words += [word for key, value in posted.headers.items() for word in ("-H", f"{key}: {value}")]
        client_core, server_core = client_and_server_core()
        served, spent, busy = cpu_s(posted.pid), _children_cpu_s(), busy_s(server_core)
        with starting_on(client_core):
            process = await asyncio.create_subprocess_exec(
                *words, posted.url, stdout=asyncio.subprocess.PIPE, env={**os.environ, **program.environment}
            )
        output = (await process.communicate())[0].decode()
        served, spent = cpu_s(posted.pid) - served, _children_cpu_s() - spent
        others = max(0.0, busy_s(server_core) - busy - served)
        _check(output, count, posted)
        return _figures(np.loadtxt(folder / "log", np.int64, usecols=(0, 2), ndmin=2), served, spent, others)


def _http2(in_flight: int) -> list[str]:
    streams = min(_STREAMS, in_flight)
    return ["-c", str(in_flight // streams), "-m", str(streams)]


def _children_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)  # of ended processes only: not of servers
    return usage.ru_utime + usage.ru_stime


def _check(output: str, count: int, posted: Posted) -> None:
    """Check sizes: h2load ignores gRPC statuses, but an error has no body."""
    data = re.search(r"\((\d+)\) data", output)
    done = re.search(r"(\d+) succeeded", output)
    if not data or not done or (int(done[1]), int(data[1])) != (count, count * posted.answer_bytes):
        message = f"{posted.url} gave other answers under load than alone; h2load says:\n{output}"
        raise Corrupt("WRONG_ANSWERS", message, url=posted.url)


def _figures(
    log: np.ndarray[tuple[int, int], np.dtype[np.int64]], served: float, spent: float, others: float
) -> Figures:
    """``log`` is [requests, 2]: begin and duration, in microseconds."""
    begin, duration = log[:, 0], log[:, 1]
    seconds = float((begin + duration).max() - begin.min()) / 1e6
    p50, p99 = np.percentile(duration, (50, 99)) / 1e3
    count = len(log)
    return Figures(
        rate_s=count / seconds,
        p50_ms=float(p50),
        p99_ms=float(p99),
        cpu_us=served / count * 1e6,
        server_share=served / seconds,
        client_share=spent / seconds,
        others_share=others / seconds,
    )
