"""What two more replicas of each service cost a run: wall time, and processor time of all trainers together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from labelloop.events.v1.events_pb2 import LabelSource, Protocol, RunSpec
from labelloop.scorer.v1.scorer_pb2 import Strategy
from labelloop_cli.demo.plan import POOL_SIZE, Experiment
from labelloop_cli.local.nats.binary import find_or_get
from labelloop_cli.local.nats.server import NatsServer
from platformdirs import user_cache_path

from tests.bench.services import run_experiment, run_seconds
from tests.chaos.cluster import cluster
from tests.replicas import Replicas, replicas

_PAIRS = 5
_COUNT = 3
_NODES = 3
_ROUNDS, _BATCH = 36, 10
_WALL_MAX, _PROCESSOR_MAX = 1.1, 1.2


@dataclass(frozen=True)
class _Cost:
    """Wall seconds of one run, and processor seconds of all trainers and of all oracles meanwhile."""

    wall_s: float
    trainers_s: float
    oracles_s: float


async def three_of_each() -> dict[str, Any]:
    """Compare three of each service with one of each, in turn, on a broker of one node and on one of three."""
    binary = await asyncio.to_thread(find_or_get, user_cache_path("labelloop"))
    detail = {f"{nodes} nodes": await _compared(binary, nodes) for nodes in (1, _NODES)}
    walls = {name: each["wall"] for name, each in detail.items()}
    processors = {name: each["trainers"] for name, each in detail.items()}
    return {
        "value": max(walls.values()),
        "unit": "wall time, three of each / one of each",
        "target": f"at most {_WALL_MAX}, and {_PROCESSOR_MAX} times the processor time of all trainers",
        "met": max(walls.values()) <= _WALL_MAX and max(processors.values()) <= _PROCESSOR_MAX,
        "detail": detail,
    }


async def _compared(binary: Path, nodes: int) -> dict[str, Any]:
    """Return the medians of the ratios of three to one, and the costs that they come from."""
    ones, threes = [], []
    with TemporaryDirectory() as folder:
        async with AsyncExitStack() as stack:
            worlds = [
                await stack.enter_async_context(_world(binary, Path(folder) / str(count), nodes, count))
                for count in (1, _COUNT)
            ]
            for world in worlds:
                await _cost(world, "warm")
            for pair in range(_PAIRS):
                ones.append(await _cost(worlds[0], str(pair)))
                threes.append(await _cost(worlds[1], str(pair)))
    pairs = list(zip(ones, threes, strict=True))
    return {
        "wall": median(three.wall_s / one.wall_s for one, three in pairs),
        "wall_of_fastest": min(three.wall_s for three in threes) / min(one.wall_s for one in ones),
        "trainers": median(three.trainers_s / one.trainers_s for one, three in pairs),
        "oracles": median(three.oracles_s / one.oracles_s for one, three in pairs),
        "one_of_each": [vars(one) for one in ones],
        "three_of_each": [vars(three) for three in threes],
    }


@asynccontextmanager
async def _world(binary: Path, folder: Path, nodes: int, count: int) -> AsyncIterator[Replicas]:
    """Start a broker of its own, and ``count`` of each service."""
    folder.mkdir(parents=True)
    async with AsyncExitStack() as stack:
        if nodes == 1:
            url = (await stack.enter_async_context(NatsServer(binary, folder / "nats"))).url
        else:
            url = (await stack.enter_async_context(cluster(binary, folder / "nodes"))).url
        yield await stack.enter_async_context(replicas(folder / "services", url, count, of_broker=nodes))


async def _cost(world: Replicas, suffix: str) -> _Cost:
    before = [world.counted(name, "process_cpu_seconds_total") for name in ("trainer", "oracle")]
    whole = await run_experiment(world.clients, Experiment("run", _spec()), f"run-{suffix}", "")
    after = [world.counted(name, "process_cpu_seconds_total") for name in ("trainer", "oracle")]
    assert len(whole.rounds) == _ROUNDS
    return _Cost(run_seconds(whole), after[0] - before[0], after[1] - before[1])


def _spec() -> RunSpec:
    spec = RunSpec(
        strategy=Strategy.STRATEGY_MARGIN,
        first_strategy=Strategy.STRATEGY_RANDOM,
        batch_size=_BATCH,
        label_budget=_ROUNDS * _BATCH,
        protocol=Protocol.PROTOCOL_HONEST,
        label_source=LabelSource.LABEL_SOURCE_DATASET,
    )
    spec.dataset.name, spec.dataset.sample_limit = "mnist", POOL_SIZE
    return spec
