"""Targets of a load test: services started for it, or a scorer that already runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from labelloop.errors import WrongState
from labelloop.scorer.v1.scorer_pb2 import GetSamplesRequest
from labelloop.trainer.v1.trainer_pb2 import GetRunRequest, StartRunRequest
from labelloop_cli.clients import Clients, Endpoints, connect
from labelloop_cli.demo.plan import article
from labelloop_cli.load.alone import made_up_images, unloaded_answer
from labelloop_cli.local.stack import Stack, running
from numpy.typing import NDArray

from tests.load.machine import Cores, Watched, cores, running_on
from tests.load.runs import Runs

_KNOWN_IMAGES = 64


@dataclass(frozen=True)
class Own:
    """Services and a broker started for the test, and their cores."""

    stack: Stack
    cores: Cores

    def watched(self) -> Watched:
        """Their processes, to tell them from others on the server's cores."""
        processes = [service.process for service in self.stack.services.values()]
        brokers = [self.stack.broker.pid] if self.stack.broker else []
        return Watched((*brokers, *(process.pid for process in processes if process)), self.cores.server)


@dataclass(frozen=True)
class Target:
    """``images`` ``[n, features]`` are posted. ``model`` is the digest of a model that the scorer has. ``runs`` is None
    if no trainer is known: then ``unloaded`` holds, by digest, the scorer's own probabilities ``[n, classes]`` of the
    images before the load. ``own`` is None if the services were not started for the test."""

    where: str
    scorer: str
    model: str
    images: NDArray[np.generic]
    runs: Runs | None = None
    unloaded: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    own: Own | None = None


@asynccontextmanager
async def own_target() -> AsyncIterator[Target]:
    """Start services with a finished run of MNIST, on other cores than the client's if there are two."""
    async with AsyncExitStack() as exits:
        folder, theirs = Path(exits.enter_context(TemporaryDirectory())), cores()
        exits.enter_context(running_on(theirs.client))
        with running_on(theirs.server):
            stack = await exits.enter_async_context(running(folder))
        clients = await exits.enter_async_context(connect(stack.endpoints))
        spec = next(experiment.spec for experiment in article() if experiment.name == "random_400")
        await clients.trainer.StartRun(StartRunRequest(run_id="known", spec=spec))
        async for _ in clients.watch("known"):
            pass
        where = f"Services started for this test, on {'cores of their own' if theirs.are_apart else 'the one core'}"
        yield await _of_run(where, clients, stack.endpoints.scorer, "known", Own(stack, theirs))


@asynccontextmanager
async def foreign_target(scorer: str, trainer: str, run_id: str) -> AsyncIterator[Target]:
    """Use running services read-only: no run is started and no label requested."""
    async with connect(Endpoints(scorer=scorer, trainer=trainer)) as clients:
        yield await _of_run(f"The scorer at {scorer}", clients, scorer, run_id, None)


@asynccontextmanager
async def scorer_alone(scorer: str, model: str, run_id: str) -> AsyncIterator[Target]:
    """Use a running scorer, with a model by its digest or else the newest of a run."""
    async with connect(Endpoints(scorer=scorer)) as clients:
        images = await made_up_images(clients, _KNOWN_IMAGES, model=model, run_id=run_id)
        digest, probabilities = await unloaded_answer(clients, images, model=model, run_id=run_id)
        where = f"The scorer at {scorer}, its answers compared with its own before the load"
        yield Target(where, scorer, digest, images, unloaded={digest: probabilities})


async def _of_run(where: str, clients: Clients, scorer: str, run_id: str, own: Own | None) -> Target:
    run = (await clients.trainer.GetRun(GetRunRequest(run_id=run_id))).run
    if not run.latest.model_sha256:
        raise WrongState("NO_MODEL_YET", f"run {run_id} has no model yet: name one that has, or wait", run=run_id)
    ids = range(min(_KNOWN_IMAGES, run.pool.sample_count))
    answer = await clients.scorer.GetSamples(GetSamplesRequest(pool_sha256=run.pool.pool_sha256, sample_ids=ids))
    images = np.frombuffer(answer.samples, np.dtype(answer.dtype)).reshape(len(ids), -1)
    runs = Runs(clients, run, may_start=own is not None)
    return Target(where, scorer, run.latest.model_sha256, images, runs, own=own)
