"""Cost of scoring posted images: compared with an echo server, and as a stream."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from statistics import median
from typing import Any

import numpy as np

from scorer_svc.features.patches import learn_patches
from tests.bench.article import mnist
from tests.bench.cores import client_and_server_core, starting_on
from tests.bench.echo_server import METHOD
from tests.bench.posting import IN_FLIGHT, grpc_call, measured
from tests.bench.scored import Scored, scorer_on
from trainer_svc.model.onnx_export import joined, to_onnx

_PAIRS = 7
_RATE_MIN, _P99_MAX = 0.87, 1.2
_STREAMS, _MESSAGES, _IMAGES = 4, 64, 64
_ROWS_MIN_S = 250_000
_STREAMS_OF_PATCHES, _IMAGES_OF_PATCHES = 2, 16  # part of more would be refused: it would wait over 0.1 s
_LEARNED_FROM = 4_000


async def unary_vs_echo() -> dict[str, Any]:
    """Compare Score of one image with an echo of the same bytes: rate and p99, closed loop, servers on one core."""
    core = client_and_server_core()[1]
    async with scorer_on(core) as scored, _echo_on(core) as (address, pid):
        score = await scored.unary(1)
        message = scored.request(0, 1).SerializeToString()
        echo = grpc_call(address, METHOD, [message], [len(message)], pid)
        pairs = [(await measured(score), await measured(echo)) for _ in range(_PAIRS)]
    rate = median(ours.rate_s / theirs.rate_s for ours, theirs in pairs)
    p99 = median(ours.p99_ms / theirs.p99_ms for ours, theirs in pairs)
    return {
        "value": rate,
        "unit": "of the echo's rate",
        "target": f"at least {_RATE_MIN}, p99 at most {_P99_MAX} times the echo's",
        "met": rate >= _RATE_MIN and p99 <= _P99_MAX,
        "detail": {
            "p99_ratio": p99,
            "cpu_ratio": median(ours.cpu_us / theirs.cpu_us for ours, theirs in pairs),
            "loop": f"closed, {IN_FLIGHT} in flight",
            "score": [asdict(ours) for ours, _ in pairs],
            "echo": [asdict(theirs) for _, theirs in pairs],
        },
    }


async def stream_rows() -> dict[str, Any]:
    """Measure images per second of ScoreStream on one core."""
    async with scorer_on(client_and_server_core()[1]) as scored:
        return await _rows(scored, _STREAMS, _IMAGES, _ROWS_MIN_S)


async def stream_rows_of_patches() -> dict[str, Any]:
    """The same with a model on learned features: 444 patch vectors and a spectral embedding."""
    images = mnist().samples[:_LEARNED_FROM]
    weights = np.random.default_rng(0).normal(0, 0.1, (10, 1_801)).astype(np.float32)
    model = joined(learn_patches(images, 0), to_onnx(weights, "float32"))
    async with scorer_on(client_and_server_core()[1], model=model) as scored:
        return await _rows(scored, _STREAMS_OF_PATCHES, _IMAGES_OF_PATCHES, 0)


async def _rows(scored: Scored, streams: int, images: int, rows_min_s: int) -> dict[str, Any]:
    stream = await scored.stream(_MESSAGES, images)
    runs = [await measured(stream, in_flight=streams) for _ in range(_PAIRS)]
    rows = [run.rate_s * _MESSAGES * images for run in runs]
    return {
        "value": median(rows),
        "unit": "images a second, server on one core",
        "target": f"at least {rows_min_s:,}" if rows_min_s else "none stated",
        "met": median(rows) >= rows_min_s,
        "detail": {
            "images_s": rows,
            "cpu_us_an_image": median(run.cpu_us for run in runs) / (_MESSAGES * images),
            "server_share": median(run.server_share for run in runs),
            "client_share": median(run.client_share for run in runs),
            "others_share": [run.others_share for run in runs],
            "images_a_message": images,
            "streams": streams,
        },
    }


@asynccontextmanager
async def _echo_on(core: int) -> AsyncIterator[tuple[str, int]]:
    """Address and process id of an echo server."""
    with starting_on(core):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.bench.echo_server", stdout=asyncio.subprocess.PIPE
        )
    try:
        assert process.stdout is not None
        port = int(await process.stdout.readline())
        yield f"127.0.0.1:{port}", process.pid
    finally:
        process.terminate()
        await process.wait()
