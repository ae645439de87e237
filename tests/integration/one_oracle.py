"""An oracle as far as tools go, over a real broker, and a run that asks it for labels."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from labelloop.eventlog.connection import connect
from labelloop.eventlog.log import EventLog
from labelloop.eventlog.projections import RunProjections
from labelloop.events.v1.events_pb2 import (
    Event,
    LabelSource,
    LabelsRequested,
    PoolPublished,
    QueueSpec,
    RunSpec,
    RunStarted,
)
from labelloop_cli.local.nats.server import NatsServer

from oracle_svc.datasets.cache import DatasetCache
from oracle_svc.dead_letters import DeadLetters
from oracle_svc.domain.labeling_state import LabelingState
from oracle_svc.integrations.base import Integration
from oracle_svc.integrations.dispatcher import IntegrationDispatcher
from oracle_svc.integrations.request_retries import RequestRetries
from oracle_svc.leases import Leases
from oracle_svc.request_dispenser import RequestDispenser
from oracle_svc.result_recorder import ResultRecorder
from oracle_svc.samples.requests import Samples
from oracle_svc.tool_results import ToolResultSink
from tests.blobs import write_blobs
from tests.patience import PATIENCE_S


@dataclass
class Oracle:
    """What one oracle process is made of, as far as tools go."""

    projections: RunProjections[LabelingState]
    log: EventLog
    leases: Leases
    dead_letters: DeadLetters
    recorder: ResultRecorder
    counter: RequestDispenser

    def tool_intake(self, tool: str) -> ToolResultSink:
        return ToolResultSink(
            tool, self.recorder, self.dead_letters, RequestRetries(tool, self.projections, self.leases)
        )

    @property
    def result_sink(self) -> ToolResultSink:
        return self.tool_intake("list")

    def dispatcher(self, tool: Integration, resend_s: float = 3600.0, **more: float) -> IntegrationDispatcher:
        return IntegrationDispatcher(
            tool, self.result_sink, self.projections, self.log, self.leases, self.counter, resend_s, **more
        )


@asynccontextmanager
async def oracle(server: NatsServer, cache: Path, now: Callable[[], float] | None = None) -> AsyncIterator[Oracle]:
    client = await connect(server.url, "test")
    log, dead_letters = EventLog(client), DeadLetters(client)
    leases = Leases(client, now) if now else Leases(client)
    for store in (log, leases, dead_letters):
        await store.ensure_stream()
    projections: RunProjections[LabelingState] = RunProjections(LabelingState.begin)
    recorder = ResultRecorder(projections, log)
    counter = RequestDispenser(leases, Samples(DatasetCache(None, cache)))
    following = [
        asyncio.create_task(work) for work in (projections.follow(log), leases.follow(), dead_letters.follow())
    ]
    try:
        await projections.wait_for(await log.last_sequence())
        yield Oracle(projections, log, leases, dead_letters, recorder, counter)
    finally:
        for task in following:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)
        await client.close()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not holds():  # noqa: ASYNC110  # what is waited for rings no bell
            await asyncio.sleep(0.01)


async def ask(server: NatsServer, folder: Path, samples: Sequence[int]) -> None:
    """Run r asks for these of 300 samples."""
    blobs = write_blobs(folder)
    spec = RunSpec(
        dataset=blobs.source(),
        label_source=LabelSource.LABEL_SOURCE_QUEUE,
        label_budget=len(samples),
        batch_size=len(samples),
        report_every=1,
        protocol=2,  # type: ignore[arg-type]
        queue=QueueSpec(tool="list"),
    )
    pool = PoolPublished(pool_sha256="0" * 64, sample_count=300, shape=[6, 6], dtype="uint8", classes=["a", "b", "c"])
    request = LabelsRequested(sample_ids=samples, score=[0.0] * len(samples))
    client = await connect(server.url, "test")
    log = EventLog(client)
    await log.ensure_stream()
    for event in (
        Event(run_id="r", run_started=RunStarted(spec=spec)),
        Event(run_id="r", pool_published=pool),
        Event(run_id="r", labels_requested=request),
    ):
        await log.append_once(event)
    await client.close()
