"""The cost of the services against the same algorithm in one process."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from labelloop_cli.clients import connect
from labelloop_cli.demo.plan import POOL_SIZE, STOPPING_SAMPLES
from labelloop_cli.local.stack import running
from platformdirs import user_cache_path

from oracle_svc.datasets import Dataset, DatasetSource, load
from tests.bench import notebook
from tests.bench.round_trips import round_trip_s
from tests.bench.services import four_hundred_rounds, warm_up

_PAIRS = 3
_TRIPS_MAX = 50
_OVERHEAD_TARGET = f"at most {_TRIPS_MAX}"


async def article_vs_notebook() -> dict[str, Any]:
    """Wall time of 400 rounds through the services over that of a plain PyTorch loop, alternating on one machine."""
    dataset = mnist()
    services, rival = [], []
    with TemporaryDirectory() as store:
        async with running(Path(store)) as stack, connect(stack.endpoints) as clients:
            await warm_up(clients, "warm")
            for pair in range(_PAIRS):
                services.append((await four_hundred_rounds(clients, str(pair))).seconds)
                rival.append(_notebook_seconds(dataset))
    ratios = [ours / theirs for ours, theirs in zip(services, rival, strict=True)]
    return {
        "value": float(np.median(ratios)),
        "unit": "wall time, services / notebook",
        "target": "at most 1.0, aim for 0.6",
        "met": float(np.median(ratios)) <= 1.0,
        "detail": {"ratios": ratios, "services_s": services, "notebook_s": rival, "dataset": dataset.description},
    }


async def round_overhead() -> dict[str, Any]:
    """Time of a round beyond its fit, over a bare round trip of the broker: export, publish, rank, reveal.

    Each run has a broker of its own, since one that holds a run's models already is asked for them. Round trips are
    timed before and after each run.
    """
    overheads_ms, trips_ms, ratios = [], [], []
    for pair in range(_PAIRS):
        with TemporaryDirectory() as store:
            async with running(Path(store)) as stack, connect(stack.endpoints) as clients:
                await warm_up(clients, "warm")
                before = await round_trip_s(stack.nats_url)
                timed = await four_hundred_rounds(clients, str(pair))
                trip_ms = 1e3 * (before + await round_trip_s(stack.nats_url)) / 2
        own_ms = [1e3 * cost for cost in timed.overheads_s]
        overheads_ms += own_ms
        trips_ms.append(trip_ms)
        ratios.append(float(np.median(own_ms)) / trip_ms)
    p50, p99 = (float(value) for value in np.percentile(overheads_ms, (50, 99)))
    ratio = float(np.median(ratios))
    return {
        "value": ratio,
        "unit": "bare round trips of the broker that a round takes beyond its fit, p50",
        "target": _OVERHEAD_TARGET,
        "met": ratio <= _TRIPS_MAX,
        "detail": {"ratios": ratios, "p50_ms": p50, "p99_ms": p99, "trips_ms": trips_ms, "rounds": len(overheads_ms)},
    }


def mnist() -> Dataset:
    """MNIST as the services load it."""
    data_dir = os.environ.get("LABELLOOP_DATA_DIR")
    return load(
        DatasetSource("mnist"), data_dir=Path(data_dir) if data_dir else None, cache_dir=user_cache_path("labelloop")
    )


def _notebook_seconds(dataset: Dataset) -> float:
    """Run in a new process, so that PyTorch has its defaults."""
    assert dataset.labels is not None
    assert dataset.evaluation_samples is not None
    assert dataset.evaluation_labels is not None
    arrays = (
        dataset.samples[:POOL_SIZE],
        dataset.labels[:POOL_SIZE],
        dataset.evaluation_samples[:STOPPING_SAMPLES],
        dataset.evaluation_labels[:STOPPING_SAMPLES],
    )
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(notebook.seconds, *arrays).result()
