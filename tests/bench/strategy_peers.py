"""Accuracy by labels beside active-learning libraries: the same pool, seeds, batches and budget, each with its own
fit."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from labelloop.trainer.v1.trainer_pb2 import GetRunRequest, StartRunRequest
from labelloop.wire.errors import WrongState
from labelloop_cli.clients import Clients, connect
from labelloop_cli.demo.plan import POOL_SIZE
from labelloop_cli.stack import running
from numpy.typing import NDArray

from scorer_svc.graph import Graph
from scorer_svc.patches import learn_patches
from scorer_svc.session import share_memory
from tests.bench.article import mnist
from tests.bench.peers.environments import python_of
from tests.study.plan import AT, DEFAULT, FEATURES, Cell, spec

_SEEDS = (1, 2, 3)
_LIBRARIES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "skactiveml": (("scikit-activeml==1.0.1", "scikit-learn==1.9.1"), ("margin", "badge", "typiclust")),
    "smalltext": (("small-text==1.4.1", "scikit-learn==1.5.2", "numpy<2"), ("margin",)),
}
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


async def strategies_vs_peers() -> dict[str, Any]:
    """Least lead in accuracy, over the features and the numbers of labels, of our default strategy over the best of
    theirs, means of three seeds. Their first batch is random, but for TypiClust's: they have no other."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        data = await asyncio.to_thread(_save, folder)
        theirs = {features: await _peers(path) for features, path in data.items()}
        async with running(folder / "store") as stack, connect(stack.endpoints) as clients:
            ours = {features: await _ours(clients, features) for features in FEATURES}
    leads = {
        f"{features} at {labels}": ours[features][labels] - max(found[labels] for found in theirs[features].values())
        for features in FEATURES
        for labels in AT
    }
    return {
        "value": 100 * min(leads.values()),
        "unit": "percentage points ahead of the best library, at least",
        "target": "0 or more",
        "met": min(leads.values()) >= 0,
        "detail": {"ours": ours, "theirs": theirs, "leads": leads, "seeds": _SEEDS},
    }


def _save(folder: Path) -> dict[str, Path]:
    """What tests.bench.peers.strategy_data reads, by features."""
    dataset = mnist()
    assert dataset.evaluation_samples is not None
    assert dataset.evaluation_labels is not None
    assert dataset.labels is not None
    pool, test = dataset.samples[:POOL_SIZE], dataset.evaluation_samples
    share_memory()
    graph = Graph(learn_patches(pool, 0), "patches", field="")
    seen: dict[str, list[NDArray[np.float32]]] = {
        "pixels": [(each.reshape(len(each), -1) / 255).astype(np.float32) for each in (pool, test)],
        "patches": [graph.answers(each) for each in (pool, test)],
    }
    for features, (ours, judged) in seen.items():
        np.savez(
            folder / f"{features}.npz",
            pool=ours,
            test=judged,
            labels=dataset.labels[:POOL_SIZE],
            test_labels=dataset.evaluation_labels,
        )
    return {features: folder / f"{features}.npz" for features in seen}


async def _peers(data: Path) -> dict[str, dict[int, float]]:
    """Mean accuracy by labels of each library's strategies. WrongState where none could be installed or a loop
    fails."""
    found = {}
    for library, (requirements, strategies) in _LIBRARIES.items():
        python = await asyncio.to_thread(python_of, f"{library}-strategies", requirements)
        for strategy in strategies:
            runs = [await _loop(library, python, data, strategy, seed) for seed in _SEEDS]
            found[f"{library} {strategy}"] = {labels: fmean(run[labels] for run in runs) for labels in AT}
    return found


async def _loop(library: str, python: Path, data: Path, strategy: str, seed: int) -> dict[int, float]:
    process = await asyncio.create_subprocess_exec(
        *(str(python), "-W", "ignore", "-m", f"tests.bench.peers.{library}_strategies", str(data), strategy, str(seed)),
        env={**os.environ, **_ONE_THREAD, "PYTHONPATH": str(Path.cwd())},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    if process.returncode:
        raise WrongState("PEER_FAILED", f"{library} failed: {errors.decode()[-300:]}", peer=library)
    return {int(labels): accuracy for labels, accuracy in json.loads(output.splitlines()[-1]).items()}


async def _ours(clients: Clients, features: str) -> dict[int, float]:
    runs = []
    for seed in _SEEDS:
        cell = Cell("mnist-4000", features, DEFAULT, seed)
        await clients.trainer.StartRun(StartRunRequest(run_id=cell.run_id, spec=spec(cell)), wait_for_ready=True)
        async for _ in clients.watch(cell.run_id):
            pass
        whole = await clients.trainer.GetRun(GetRunRequest(run_id=cell.run_id))
        runs.append({result.labels: result.evaluation.value for result in whole.rounds})
    return {labels: fmean(run[labels] for run in runs) for labels in AT}
