"""The article's 40 rounds through the services against active-learning libraries in one process."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from labelloop.errors import WrongState
from labelloop_cli.clients import Clients, connect
from labelloop_cli.demo.plan import POOL_SIZE, STOPPING_SAMPLES
from labelloop_cli.local.stack import running
from numpy.typing import NDArray

from oracle_svc.datasets import Dataset
from tests.bench.article import mnist
from tests.bench.peers.environments import python_of
from tests.bench.services import article_run, run_experiment, run_seconds, warm_up

_PAIRS = 3
_LIBRARIES: Mapping[str, tuple[str, ...]] = {
    "skactiveml": ("scikit-activeml==1.0.1", "scikit-learn==1.9.1"),
    "modal": ("modAL-python==0.4.2.1", "scikit-learn==1.5.2"),  # it calls what scikit-learn 1.8 removed
}
# Their matrices are small: a second BLAS thread makes them slower, on a busy machine twenty times.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


async def article_vs_peers() -> dict[str, Any]:
    """Compare wall times of active_400 through the services and with each library, in turn, data in memory.

    Same pool, first batch, batches and budget. The model is softmax regression everywhere, but each fits it in its own
    way: the services as in the article, the libraries with scikit-learn's LogisticRegression by default settings.
    """
    dataset = mnist()
    with TemporaryDirectory() as name:
        folder = Path(name)
        pythons, skipped = await _installed()
        _save(dataset, folder / "data.npz")
        async with running(folder / "store", pools_dir=folder) as stack, connect(stack.endpoints) as clients:
            await warm_up(clients, "warm")
            turns = [await _turn(clients, str(pair), pythons, folder / "data.npz") for pair in range(_PAIRS)]
    ratios = {name: median(turn["services"]["seconds"] / turn[name]["seconds"] for turn in turns) for name in pythons}
    return {
        "value": max(ratios.values()),
        "unit": "wall time, services / the fastest library",
        "target": "under 1",
        "met": max(ratios.values()) < 1,
        "detail": {"ratios": ratios, "turns": turns, "skipped": skipped, "dataset": dataset.description},
    }


async def _installed() -> tuple[dict[str, Path], dict[str, str]]:
    """The Python of each installed library, and why others failed. WrongState if all failed."""
    pythons, skipped = {}, {}
    for name, requirements in _LIBRARIES.items():
        try:
            pythons[name] = await asyncio.to_thread(python_of, name, requirements)
        except WrongState as error:
            skipped[name] = error.message
    if not pythons:
        raise WrongState("NO_PEERS", f"no library could be installed: {skipped}")
    return pythons, skipped


def _save(dataset: Dataset, path: Path) -> None:
    """Write the data that article_data reads."""
    assert dataset.labels is not None
    assert dataset.evaluation_samples is not None
    assert dataset.evaluation_labels is not None
    np.savez(
        path,
        pool=_pixels(dataset.samples[:POOL_SIZE]),
        labels=dataset.labels[:POOL_SIZE],
        test=_pixels(dataset.evaluation_samples[:STOPPING_SAMPLES]),
        test_labels=dataset.evaluation_labels[:STOPPING_SAMPLES],
    )


def _pixels(samples: NDArray[Any]) -> NDArray[np.float32]:
    """``[n, 784]`` in [0, 1]."""
    return samples.reshape(len(samples), -1).astype(np.float32) / np.float32(255)


async def _turn(clients: Clients, suffix: str, pythons: Mapping[str, Path], data: Path) -> dict[str, Any]:
    whole = await run_experiment(clients, article_run("active_400"), f"active_400-{suffix}", "")
    ours = {"seconds": run_seconds(whole), "accuracy": whole.rounds[-1].stopping.value}
    return {"services": ours} | {name: await _library(name, python, data) for name, python in pythons.items()}


async def _library(name: str, python: Path, data: Path) -> dict[str, float]:
    """Seconds, and accuracy on the 400 test images. WrongState if the loop fails."""
    process = await asyncio.create_subprocess_exec(
        *(str(python), "-W", "ignore", "-m", f"tests.bench.peers.{name}_loop", str(data)),
        env={**os.environ, **_ONE_THREAD, "PYTHONPATH": str(Path.cwd())},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    if process.returncode:
        raise WrongState("PEER_FAILED", f"{name} failed: {errors.decode()[-300:]}", peer=name)
    result: dict[str, float] = json.loads(output)
    return result
