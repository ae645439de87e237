"""The cost of ranking a resident pool over gRPC, beside a plain scan in one process and reading the pool."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import onnxruntime
from labelloop.scorer.v1.scorer_pb2 import Strategy
from numpy.typing import NDArray

from tests.bench.article import mnist
from tests.bench.resident import resident, shards_of

_POOL = 60_000
_SIZES = (4_000, 60_000, 1_000_000, 10_000_000)
_PAIRS = 15
_SCAN_TILE = 1_000  # the fastest here
_TIMES_MIN, _READ_AIM = 2.0, 0.4
_SLOPE_SPREAD_MAX, _CONSTANT_MB_MAX, _SAMPLE_BYTES = 0.1, 300, 784
_LEAST = Strategy.STRATEGY_LEAST_CONFIDENCE
_STRATEGIES = (_LEAST, Strategy.STRATEGY_MARGIN, Strategy.STRATEGY_ENTROPY, Strategy.STRATEGY_MOST_CONFIDENT)


async def rank_vs_raw_scan() -> dict[str, Any]:
    """Measure how many times as fast RankPool's top ten is as ONNX Runtime alone, in turn on one core."""
    samples = np.concatenate(list(shards_of(_POOL)))
    times: dict[str, list[float]] = {}
    scans: list[float] = []
    async with resident() as scorer:
        pool = await scorer.publish(_POOL)
        scan = _scan(scorer.model, samples)
        for strategy in _STRATEGIES:
            await scorer.rank(pool, strategy)  # loads the pool
            for _ in range(_PAIRS):
                scans.append(_seconds(scorer.core, scan))
                ours, _ = await scorer.rank(pool, strategy)
                times.setdefault(Strategy.Name(strategy), []).append(scans[-1] / ours)
    value = median(times[Strategy.Name(_LEAST)])
    return {
        "value": value,
        "unit": "times as fast as a plain scan, least confidence",
        "target": f"at least {_TIMES_MIN}, aim for 3",
        "met": value >= _TIMES_MIN,
        "detail": {
            "times": {name: median(ratios) for name, ratios in times.items()},
            "scan_samples_s": _POOL / median(scans),
            "dataset": mnist().description,
        },
    }


async def rank_vs_read_limit() -> dict[str, Any]:
    """Compare RankPool's top ten over gRPC with one pass of reading the pool, in turn on one core."""
    words = np.concatenate(list(shards_of(_POOL))).reshape(-1).view(np.uint64)
    ratios, reads = [], []
    async with resident() as scorer:
        pool = await scorer.publish(_POOL)
        await scorer.rank(pool, _LEAST)  # loads the pool
        for _ in range(_PAIRS):
            reads.append(_seconds(scorer.core, words.max))
            ours, _ = await scorer.rank(pool, _LEAST)
            ratios.append(reads[-1] / ours)
    return {
        "value": median(ratios),
        "unit": "of the speed of reading the pool",
        "target": f"aim for {_READ_AIM}",
        "met": median(ratios) >= _READ_AIM,
        "detail": {"ratios": ratios, "read_samples_s": _POOL / median(reads)},
    }


async def rank_growth() -> dict[str, Any]:
    """Measure how time and memory grow with the pool: nanoseconds and bytes for each further sample."""
    seconds, memory_mb = [], []
    async with resident() as scorer:
        for size in _SIZES:
            pool = await scorer.publish(size)
            await scorer.rank(pool, _LEAST)  # loads the pool
            seconds.append(median([(await scorer.rank(pool, _LEAST))[0] for _ in range(_PAIRS)]))
            memory_mb.append(scorer.memory_mb - _SAMPLE_BYTES * sum(_SIZES[: len(seconds)]) / 1e6)
    slopes_ns = np.diff(seconds) / np.diff(_SIZES) * 1e9
    spread = float(slopes_ns.max() / slopes_ns.min() - 1)
    return {
        "value": spread,
        "unit": "between the flattest and the steepest step from size to size",
        "target": f"at most {_SLOPE_SPREAD_MAX}, {_SAMPLE_BYTES} bytes a sample and under {_CONSTANT_MB_MAX} MB beside",
        "met": spread <= _SLOPE_SPREAD_MAX and max(memory_mb) < _CONSTANT_MB_MAX,
        "detail": {
            "sizes": _SIZES,
            "seconds": seconds,
            "ns_a_sample_more": slopes_ns.tolist(),
            "mb_beside_the_pools": memory_mb,
        },
    }


def _scan(model: bytes, samples: NDArray[np.uint8]) -> Callable[[], object]:
    """Return a function that computes all probabilities, in float32, on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    tiles = [samples[start : start + _SCAN_TILE] for start in range(0, len(samples), _SCAN_TILE)]
    return lambda: [session.run(None, {name: tile}) for tile in tiles]


def _seconds(core: int, work: Callable[[], object]) -> float:
    """Return the seconds that ``work`` takes in this process on ``core``."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start
    finally:
        os.sched_setaffinity(0, before)
