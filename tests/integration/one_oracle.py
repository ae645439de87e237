"""An oracle over a real broker, without a server, and a run that requests labels."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from labelloop.artifacts.opening import open_store
from labelloop.domain.ids import LeaseKey, RequestId
from labelloop.eventlog.connection import connect
from labelloop.eventlog.log import EventLog
from labelloop.events.v1.events_pb2 import (
    Event,
    LabelSource,
    LabelsRequested,
    QueueSpec,
    RunSpec,
    RunStarted,
)
from labelloop_cli.local.nats.server import NatsServer

from oracle_svc.bootstrap import Oracle, oracle_of
from oracle_svc.config import OracleSettings
from oracle_svc.datasets.cache import DatasetCache
from oracle_svc.datasets.places import Places
from oracle_svc.datasets.publisher import publish
from oracle_svc.leases import Leases
from tests.blobs import write_blobs
from tests.patience import PATIENCE_S

RESEND_S = 3600.0


@asynccontextmanager
async def oracle(
    server: NatsServer, cache: Path, now: Callable[[], float] = time.time, resend_s: float = RESEND_S
) -> AsyncIterator[Oracle]:
    """An oracle without a server, by the clock ``now``."""
    client = await connect(server.url, "test")
    settings = OracleSettings(nats_url=server.url, cache_dir=cache)
    one = replace(oracle_of(settings, client, None), leases=Leases(client, now, resend_s))
    await one.ensure_streams()
    following = [asyncio.create_task(work) for work in one.following()]
    try:
        await one.caught_up()
        yield one
    finally:
        for task in following:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)
        await client.close()


def slot_key(sample_id: int, slot: int = 0) -> LeaseKey:
    """The lease of a request of run r for one annotator."""
    return LeaseKey(RequestId("r", 0, sample_id, slot))


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not holds():  # noqa: ASYNC110  # there is no event to wait for
            await asyncio.sleep(0.01)


async def ask(server: NatsServer, folder: Path, samples: Sequence[int], **queue: Any) -> None:
    """Start run r, which requests these of 300 samples; ``queue`` are fields of its ``QueueSpec``."""
    source = write_blobs(folder).source()
    source.classes.extend("abc")
    spec = RunSpec(
        dataset=source,
        label_source=LabelSource.LABEL_SOURCE_QUEUE,
        label_budget=len(samples),
        batch_size=len(samples),
        report_every=1,
        protocol=2,  # type: ignore[arg-type]
        queue=QueueSpec(**{"tool": "list", **queue}),
    )
    request = LabelsRequested(sample_ids=samples, score=[0.0] * len(samples))
    client = await connect(server.url, "test")
    dataset = await DatasetCache(None, folder, Places(folder)).get(source)
    pool = await publish(dataset, open_store("jetstream:", client))
    log = EventLog(client)
    await log.ensure_stream()
    for event in (
        Event(run_id="r", run_started=RunStarted(spec=spec)),
        Event(run_id="r", pool_published=pool),
        Event(run_id="r", labels_requested=request),
    ):
        await log.append_once(event)
    await client.close()
