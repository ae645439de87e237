"""An oracle as far as tools go, over a real broker, and a run that asks it for labels."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from labelloop.events.v1.events_pb2 import (
    Event,
    LabelSource,
    LabelsRequested,
    PoolPublished,
    QueueSpec,
    RunSpec,
    RunStarted,
)
from labelloop.wire.broker import connect
from labelloop.wire.eventlog import EventLog
from labelloop.wire.run_book import RunBook
from labelloop_cli.nats_server import NatsServer

from oracle_svc.asking_again import AskingAgain
from oracle_svc.clerk import Clerk
from oracle_svc.counter import Counter
from oracle_svc.dead_letters import DeadLetters
from oracle_svc.desk import Desk
from oracle_svc.intake import ToolIntake
from oracle_svc.leases import Leases
from oracle_svc.pump import Pump
from oracle_svc.queues.queue import Queue
from oracle_svc.samples import Samples
from oracle_svc.shelf import Shelf
from tests.blobs import write_blobs
from tests.patience import PATIENCE_S


@dataclass
class Oracle:
    """What one oracle process is made of, as far as tools go."""

    book: RunBook[Desk]
    log: EventLog
    leases: Leases
    dead_letters: DeadLetters
    clerk: Clerk
    counter: Counter

    def tool_intake(self, tool: str) -> ToolIntake:
        return ToolIntake(tool, self.clerk, self.dead_letters, AskingAgain(tool, self.book, self.leases))

    @property
    def intake(self) -> ToolIntake:
        return self.tool_intake("list")

    def pump(self, tool: Queue, resend_s: float = 3600.0, **more: float) -> Pump:
        return Pump(tool, self.intake, self.book, self.log, self.leases, self.counter, resend_s, **more)


@asynccontextmanager
async def oracle(server: NatsServer, cache: Path, now: Callable[[], float] | None = None) -> AsyncIterator[Oracle]:
    client = await connect(server.url, "test")
    log, dead_letters = EventLog(client), DeadLetters(client)
    leases = Leases(client, now) if now else Leases(client)
    for store in (log, leases, dead_letters):
        await store.ensure_stream()
    book: RunBook[Desk] = RunBook(Desk.begin)
    clerk = Clerk(book, log)
    counter = Counter(leases, Samples(Shelf(None, cache)))
    following = [asyncio.create_task(work) for work in (book.follow(log), leases.follow(), dead_letters.follow())]
    try:
        await book.reach(await log.last_sequence())
        yield Oracle(book, log, leases, dead_letters, clerk, counter)
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
