"""Runs of the trainer, from which the load test gets its models."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc
from labelloop.errors import from_rpc
from labelloop.trainer.v1.trainer_pb2 import (
    CancelRunRequest,
    GetModelRequest,
    GetRunRequest,
    RunStatus,
    StartRunRequest,
)
from labelloop_cli.clients import Clients
from labelloop_cli.demo.plan import article

_LIVE_AUTO_LABELS = 3_600


@dataclass
class Runs:
    """``run`` has a model. ``may_start`` is true for the load test's own services; on others no run is started."""

    clients: Clients
    run: RunStatus
    may_start: bool
    lives: int = field(default=0, init=False)

    @asynccontextmanager
    async def live_run(self) -> AsyncIterator[str]:
        """Yield the id of a run that gets new models meanwhile: a new one if ``may_start``, else ``run``."""
        if not self.may_start:
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
            await self._cancel(run_id)

    async def _cancel(self, run_id: str) -> None:
        try:
            await self.clients.trainer.CancelRun(CancelRunRequest(run_id=run_id, reason="the load is over"))
        except grpc.aio.AioRpcError as error:
            ours = from_rpc(error)
            if ours is None or ours.reason != "RUN_ENDED":  # its budget may be spent
                raise

    async def models(self, run_id: str) -> dict[str, bytes]:
        """Return all models of a run, by digest."""
        whole = await self.clients.trainer.GetRun(GetRunRequest(run_id=run_id))
        answers = [
            await self.clients.trainer.GetModel(GetModelRequest(run_id=run_id, round=result.round))
            for result in whole.rounds
        ]
        return {answer.model_sha256: answer.model for answer in answers}
