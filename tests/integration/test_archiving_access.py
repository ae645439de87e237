"""Runs are archived with the trainer's key and purged with the operator's, where the broker asks for keys."""

from __future__ import annotations

import asyncio

import pytest
from labelloop.artifacts.store import JetStreamArtifacts, digest_of
from labelloop.errors import Corrupt, NotAllowed, NotFound, WrongState
from labelloop.eventlog.log import EventLog
from labelloop.eventlog.projections import RunProjections
from labelloop.events.v1 import events_pb2 as pb
from labelloop_cli.operations.run_archive import purge
from nats.aio.client import Client

from tests.bench.log_events import run_events
from tests.integration.production_broker import Node
from tests.integration.test_access import connected
from tests.integration.test_access import node as node  # a fixture
from tests.patience import PATIENCE_S
from trainer_svc.archiving import Archiving
from trainer_svc.domain.run_state import RunState
from trainer_svc.past_runs import PastRuns

EVENTS = list(run_events("r", 6, 3, ended=True))


async def imported(node: Node) -> None:
    """Create the streams and write a run with the keys that may."""
    operator, importer = await connected(node, "operator"), await connected(node, "import")
    await EventLog(operator).ensure_stream()
    for event in EVENTS:
        await EventLog(importer).append_once(event)
    await JetStreamArtifacts(importer).put(b"the first artifact makes the bucket")
    await operator.close()
    await importer.close()


async def archive(client: Client) -> int:
    """Archive the run as a trainer does, and return the sequence of ``run_archived``."""
    log, artifacts, projections = EventLog(client), JetStreamArtifacts(client), RunProjections(RunState.begin)
    following = asyncio.create_task(projections.follow(log))
    try:
        async with asyncio.timeout(PATIENCE_S):
            archiving = Archiving(projections, log, artifacts, PastRuns(projections, artifacts))
            return (await archiving.archive("r")).sequence
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def test_the_trainer_archives_and_only_the_operator_purges(node: Node) -> None:
    await imported(node)
    trainer, operator = await connected(node, "trainer"), await connected(node, "operator")
    sequence = await archive(trainer)
    with pytest.raises(NotAllowed):
        await EventLog(trainer).purge_archived("r", sequence)
    log, store = EventLog(operator), JetStreamArtifacts(operator)
    assert await purge(log, store, "r") == len(EVENTS)
    assert await purge(log, store, "r") == 0
    assert await log.newest("r") == sequence
    await trainer.close()
    await operator.close()


async def test_a_trainer_that_lies_about_an_archive_has_nothing_removed(node: Node) -> None:
    await imported(node)
    trainer, operator = await connected(node, "trainer"), await connected(node, "operator")
    log, store = EventLog(operator), JetStreamArtifacts(operator)
    with pytest.raises(WrongState, match="is not archived"):
        await purge(log, store, "r")
    other = await JetStreamArtifacts(trainer).put(b"no archive")
    for generation, (digest, wrong) in enumerate(((digest_of(b"nowhere"), NotFound), (other, Corrupt))):
        facts = pb.RunArchived(archive_sha256=digest, event_count=1, left_out=1_000, last_sequence=1)
        await EventLog(trainer).append_once(pb.Event(run_id="r", round=generation, run_archived=facts))
        with pytest.raises(wrong):
            await purge(log, store, "r")
    assert len(await log.read_run("r")) == len(EVENTS) + 2
    await trainer.close()
    await operator.close()
