"""Start runs and wait for them."""

from __future__ import annotations

import asyncio

import pytest
from labelloop.events.v1.events_pb2 import RunSpec
from labelloop.oracle.v1.oracle_pb2 import ListOpenSamplesRequest, OpenSample
from labelloop.trainer.v1.trainer_pb2 import GetRunRequest, GetRunResponse, RunStatus, StartRunRequest
from labelloop_cli.clients import Clients, Endpoints

from tests.patience import PATIENCE_S


async def start(clients: Clients, run_id: str, spec: RunSpec, continues: str = "") -> RunStatus:
    request = StartRunRequest(run_id=run_id, spec=spec, continues=continues)
    return (await clients.trainer.StartRun(request, wait_for_ready=True)).run


async def finish(clients: Clients, run_id: str, *, within_s: float = PATIENCE_S) -> GetRunResponse:
    """Return the run at its end."""
    async with asyncio.timeout(within_s):
        async for _ in clients.watch(run_id):
            pass
    return await clients.trainer.GetRun(GetRunRequest(run_id=run_id), wait_for_ready=True)


async def reach_round(clients: Clients, run_id: str, number: int) -> RunStatus:
    """Return the run once it reaches a round."""
    async with asyncio.timeout(PATIENCE_S):
        async for status in clients.watch(run_id):
            if status.round >= number:
                return status
    raise AssertionError(f"{run_id} ended before round {number}")


async def waiting_samples(clients: Clients, run_id: str) -> list[OpenSample]:
    """Return the samples that wait in a run.

    All runs are listed, because an oracle may not have read yet that the trainer has started this one.
    """
    answer = await clients.oracle.ListOpenSamples(ListOpenSamplesRequest())
    return [sample for sample in answer.samples if sample.run_id == run_id]


def point_at(endpoints: Endpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    """Point the command at these services."""
    for name, value in endpoints.model_dump(exclude_none=True).items():
        monkeypatch.setenv(f"LABELLOOP_{name.upper()}", str(value))
