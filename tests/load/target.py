"""What is put under load: services of our own, started for it, or a scorer that somebody runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from labelloop.scorer.v1.scorer_pb2 import GetSamplesRequest
from labelloop.trainer.v1.trainer_pb2 import (
    CancelRunRequest,
    GetModelRequest,
    GetRunRequest,
    RunStatus,
    StartRunRequest,
)
from labelloop.wire.errors import WrongState
from labelloop_cli.clients import Clients, Endpoints, connect
from labelloop_cli.demo.plan import article
from labelloop_cli.stack import Stack, running
from numpy.typing import NDArray

from tests.bench.cores import client_and_server_core, starting_on

_KNOWN_IMAGES = 64
_LIVE_AUTO_LABELS = 3_600


@dataclass
class Target:
    """``run`` is one with a model; ``images`` ``[n, features]`` come from its pool. ``stack`` is None where somebody
    else runs the services."""

    clients: Clients
    scorer: str
    run: RunStatus
    images: NDArray[np.generic]
    stack: Stack | None
    lives: int = field(default=0, init=False)

    @asynccontextmanager
    async def live_run(self) -> AsyncIterator[str]:
        """A run that gets new models meanwhile: of our own services, one that is started now; else ``run`` itself."""
        if self.stack is None:
            yield self.run.run_id
            return
        self.lives += 1
        run_id = f"live-{self.lives}"
        spec = next(experiment.spec for experiment in article() if experiment.name == "active_400")
        spec.auto_label_batch_size, spec.auto_label_budget = spec.batch_size, _LIVE_AUTO_LABELS
        await self.clients.trainer.StartRun(StartRunRequest(run_id=run_id, spec=spec))
        async for status in self.clients.watch(run_id):
            if status.latest.model_sha256:
                break
        try:
            yield run_id
        finally:
            request = CancelRunRequest(run_id=run_id, reason="the load is over")
            await self.clients.trainer.CancelRun(request)

    async def models(self, run_id: str) -> dict[str, bytes]:
        """All models of a run, by digest."""
        whole = await self.clients.trainer.GetRun(GetRunRequest(run_id=run_id))
        answers = [
            await self.clients.trainer.GetModel(GetModelRequest(run_id=run_id, round=result.round))
            for result in whole.rounds
        ]
        return {answer.model_sha256: answer.model for answer in answers}


@asynccontextmanager
async def own_target() -> AsyncIterator[Target]:
    """Services on a core of their own where there are two, with a finished run of MNIST."""
    async with AsyncExitStack() as exits:
        folder = Path(exits.enter_context(TemporaryDirectory()))
        with starting_on(client_and_server_core()[1]):
            stack = await exits.enter_async_context(running(folder))
        clients = await exits.enter_async_context(connect(stack.endpoints))
        spec = next(experiment.spec for experiment in article() if experiment.name == "random_400")
        await clients.trainer.StartRun(StartRunRequest(run_id="known", spec=spec))
        async for _ in clients.watch("known"):
            pass
        yield await _target(clients, stack.endpoints.scorer, "known", stack)


@asynccontextmanager
async def foreign_target(scorer: str, trainer: str, run_id: str) -> AsyncIterator[Target]:
    """Services that somebody runs, which are read only: no run is started, no label asked for."""
    async with connect(Endpoints(scorer=scorer, trainer=trainer)) as clients:
        yield await _target(clients, scorer, run_id, None)


async def _target(clients: Clients, scorer: str, run_id: str, stack: Stack | None) -> Target:
    run = (await clients.trainer.GetRun(GetRunRequest(run_id=run_id))).run
    if not run.latest.model_sha256:
        raise WrongState("NO_MODEL_YET", f"run {run_id} has no model yet: name one that has, or wait", run=run_id)
    ids = range(min(_KNOWN_IMAGES, run.pool.sample_count))
    answer = await clients.scorer.GetSamples(GetSamplesRequest(pool_sha256=run.pool.pool_sha256, sample_ids=ids))
    images = np.frombuffer(answer.samples, np.dtype(answer.dtype)).reshape(len(ids), -1)
    return Target(clients, scorer, run, images, stack)
