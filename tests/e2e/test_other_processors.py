"""Services on two kinds of processors share a log: their arithmetic differs, the recorded run does not."""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from labelloop.eventlog.connection import connect as connect_broker
from labelloop.eventlog.log import EventLog
from labelloop.events.v1.events_pb2 import LabelSource
from labelloop.oracle.v1.oracle_pb2 import SubmitLabelsRequest, SubmittedLabel
from labelloop.trainer.v1.trainer_pb2 import GetModelRequest, GetRunRequest, GetRunResponse, Phase, RunStatus
from labelloop_cli.clients import Clients, connect
from labelloop_cli.local.stack import Service, Stack
from numpy.typing import NDArray

from tests.blobs import Blobs, spec
from tests.chaos.invariants import faults
from tests.e2e.driving import finish, start, waiting_samples
from tests.e2e.stopping import ask_to_stop
from tests.patience import PATIENCE_S

RUN = "shared"
OLD_PROCESSOR = {
    "ATEN_CPU_CAPABILITY": "default",  # torch
    "MKL_CBWR": "COMPATIBLE",  # torch's linear algebra
    "OPENBLAS_CORETYPE": "Prescott",  # NumPy's and SciPy's
}
pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="its libraries know no such switches")


@dataclass(frozen=True)
class Site:
    """A trainer with a scorer of its own, and clients of both."""

    trainer: Service
    clients: Clients


@pytest.fixture
async def sites(stack: Stack, tmp_path: Path) -> AsyncIterator[tuple[Site, Site]]:
    """A site of this processor and one of an old one, on one log."""
    async with AsyncExitStack() as exits:
        folder = tmp_path / "old"
        folder.mkdir()
        (folder / "llvmlite.py").write_text("raise ImportError('LLVM has no code for this processor')")
        paths = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
        shared = {
            "LABELLOOP_NATS_URL": stack.nats_url,
            "LABELLOOP_CACHE_DIR": str(folder / "cache"),
            "PYTHONPATH": paths,
        }
        shared |= OLD_PROCESSOR
        scorer = Service("scorer", folder, shared)
        exits.push_async_callback(scorer.stop)
        await scorer.start()
        oracle = stack.services["oracle"].address
        peers = {"LABELLOOP_SCORER": scorer.address, "LABELLOOP_ORACLE": oracle}
        trainer = Service("trainer", folder, shared | peers)
        exits.push_async_callback(trainer.stop)
        await trainer.start()
        new, old = [
            await exits.enter_async_context(connect(stack.endpoints.model_copy(update=changed)))
            for changed in ({}, {"trainer": trainer.address, "scorer": scorer.address})
        ]
        yield Site(stack.services["trainer"], new), Site(trainer, old)


async def label_until(clients: Clients, truth: NDArray[np.int32], reached: Callable[[RunStatus], bool]) -> None:
    """Label requested samples correctly until ``reached`` holds."""
    async with asyncio.timeout(PATIENCE_S):
        while not reached((await clients.trainer.GetRun(GetRunRequest(run_id=RUN), wait_for_ready=True)).run):
            waiting = await waiting_samples(clients, RUN)
            labels = [SubmittedLabel(sample_id=each.sample_id, label=int(truth[each.sample_id])) for each in waiting]
            if labels:
                await clients.oracle.SubmitLabels(SubmitLabelsRequest(run_id=RUN, annotator="kim", labels=labels))
            await asyncio.sleep(0.01)


def models(whole: GetRunResponse) -> list[str]:
    return [each.model_sha256 for each in whole.rounds]


async def test_trainers_with_different_arithmetic_agree_on_a_shared_run(
    sites: tuple[Site, Site], stack: Stack, blobs: Blobs
) -> None:
    new, old = sites
    truth: NDArray[np.int32] = np.load(blobs.labels)
    await ask_to_stop(old.trainer)
    await start(new.clients, "new", spec(blobs))
    by_new = await finish(new.clients, "new")
    await start(new.clients, RUN, spec(blobs, label_source=LabelSource.LABEL_SOURCE_QUEUE))
    await label_until(new.clients, truth, lambda run: run.round >= 2)

    await ask_to_stop(new.trainer)
    await old.trainer.start()
    await label_until(old.clients, truth, lambda run: run.round >= 4)
    await start(old.clients, "old", spec(blobs))
    by_old = await finish(old.clients, "old")
    assert models(by_old) != models(by_new), "the switches changed nothing"

    await new.trainer.start()
    await label_until(old.clients, truth, lambda run: run.phase == Phase.PHASE_FINISHED)
    read = [await finish(site.clients, RUN) for site in sites]
    assert read[0].run.phase == read[1].run.phase == Phase.PHASE_FINISHED
    assert (read[0].run.labels_paid, read[0].run.auto_labels, len(read[0].rounds)) == (30, 30, 12)
    assert read[0].rounds == read[1].rounds
    assert models(read[0])[:2] == models(by_new)[:2], "what the first one recorded stands"
    assert await new.clients.labels(RUN) == await old.clients.labels(RUN)
    for number in range(1, 13):
        asked = GetModelRequest(run_id=RUN, round=number)
        assert await new.clients.trainer.GetModel(asked) == await old.clients.trainer.GetModel(asked)
    client = await connect_broker(stack.nats_url, "test")
    recorded = await EventLog(client).read_run(RUN)
    await client.close()
    assert faults([each.event for each in recorded if each.event is not None]) == []
