"""Runs that are archived, purged and restored on a real broker, with crashes between any two steps."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
from labelloop.artifacts.store import ArtifactStore, JetStreamArtifacts
from labelloop.errors import LogRolledBack, WrongState
from labelloop.eventlog.connection import connect, jetstream
from labelloop.eventlog.log import EventLog
from labelloop.eventlog.projections import RunProjections
from labelloop.eventlog.subjects import EVERYTHING, STREAM
from labelloop.events.v1 import events_pb2 as pb
from labelloop_cli.local.nats.server import NatsServer
from nats.aio.client import Client
from nats.js.api import StreamConfig
from nats.js.errors import NotFoundError

from oracle_svc.domain.labeling_state import LabelingState
from tests.bench.log_events import fill, run_events
from tests.patience import PATIENCE_S
from trainer_svc.archiving import Archiving
from trainer_svc.domain.run_state import RunState
from trainer_svc.past_runs import PastRuns

EVENTS = list(run_events("r", 6, 3, ended=True))
T = TypeVar("T")
LATE = pb.LabelProvided(sample_id=5, label=1, revision=1, source="queue")


class Crash(BaseException):
    """A process that ends between two steps."""


@dataclass
class Trainer:
    """What archives need of a trainer, or of another service that follows the log."""

    client: Client
    log: EventLog
    projections: RunProjections[RunState]
    following: asyncio.Task[None]
    artifacts: ArtifactStore

    @property
    def archiving(self) -> Archiving:
        return Archiving(self.projections, self.log, self.artifacts, self.past_runs)

    @property
    def past_runs(self) -> PastRuns:
        return PastRuns(self.projections, self.artifacts)

    async def caught_up(self) -> Trainer:
        async with asyncio.timeout(PATIENCE_S):
            await self.projections.wait_for(await self.log.last_sequence())
        return self

    async def close(self) -> None:
        self.following.cancel()
        await asyncio.gather(self.following, return_exceptions=True)
        await self.client.close()


Begin = Callable[[], Awaitable["Trainer"]]


@pytest.fixture
async def begin(nats_server: NatsServer) -> AsyncIterator[Begin]:
    """Start a trainer that follows the log."""
    begun: list[Trainer] = []

    async def started() -> Trainer:
        client = await connect(nats_server.url, "test")
        log, projections = EventLog(client), RunProjections(RunState.begin)
        await log.ensure_stream()
        following = asyncio.create_task(projections.follow(log))
        begun.append(Trainer(client, log, projections, following, JetStreamArtifacts(client)))
        return await begun[-1].caught_up()

    yield started
    for each in begun:
        await each.close()


@pytest.fixture
async def trainer(nats_server: NatsServer, begin: Begin) -> Trainer:
    """A trainer, and a run that has ended."""
    client = await connect(nats_server.url, "test")
    await fill(client, iter(EVENTS))
    await client.close()
    return await begin()


async def subjects(trainer: Trainer) -> list[str]:
    """Return the subjects that stand in the stream, by sequence."""
    js, found = jetstream(trainer.client), []
    info = await js.stream_info(STREAM, subjects_filter=EVERYTHING)
    for sequence in range(info.state.first_seq, info.state.last_seq + 1):
        with suppress(NotFoundError):
            found.append((await js.get_msg(STREAM, sequence)).subject or "")
    return found


async def archive(trainer: Trainer) -> None:
    archived = await trainer.archiving.archive("r")
    await trainer.log.purge_archived("r", archived.sequence)


async def restore(trainer: Trainer) -> None:
    await trainer.archiving.restore("r")


async def test_an_archived_run_leaves_one_event_and_reads_as_before(trainer: Trainer, begin: Begin) -> None:
    before = repr(trainer.projections.get("r"))
    await archive(trainer)
    assert await subjects(trainer) == ["labelloop.v1.r.0.run_archived"]
    for each in (trainer, await begin()):
        assert not each.projections.runs
        assert repr(await each.past_runs.state("r")) == before


async def test_a_run_that_goes_on_is_not_archived(trainer: Trainer, nats_server: NatsServer) -> None:
    await fill(trainer.client, run_events("going", 3, 3, ended=False))
    with pytest.raises(WrongState, match="has not ended"):
        await trainer.archiving.archive("going")


async def test_archiving_again_changes_nothing(trainer: Trainer, begin: Begin) -> None:
    first = await trainer.archiving.archive("r")
    other = await begin()
    await other.caught_up()
    assert (await other.archiving.archive("r")).sequence == first.sequence


async def test_two_at_once_make_one_archive(trainer: Trainer, begin: Begin) -> None:
    other = await begin()
    made = await asyncio.gather(trainer.archiving.archive("r"), other.archiving.archive("r"))
    assert len({each.sequence for each in made}) == 1


async def test_an_answer_that_comes_while_the_archive_is_made_is_in_it(trainer: Trainer, begin: Begin) -> None:
    late = [pb.Event(run_id="r", round=1, label_provided=LATE)]

    class Slow(JetStreamArtifacts):
        async def put(self, data: bytes) -> str:
            while late:
                await trainer.log.append_once(late.pop())
            return await super().put(data)

    trainer.artifacts = Slow(trainer.client)
    await archive(trainer)
    state = await (await begin()).past_runs.state("r")
    assert state.answers.standing[5].revision == 1


async def test_nobody_starts_an_archived_run_anew_or_answers_it(trainer: Trainer, begin: Begin) -> None:
    await archive(trainer)
    label = next(event for event in EVENTS if event.HasField("label_provided"))
    for event in (EVENTS[0], EVENTS[1], label):
        recorded = await trainer.log.append_once(event)
        with pytest.raises(WrongState, match="archived"):
            await trainer.projections.wait_for_append(recorded)
    assert not (await begin()).projections.runs


async def test_a_service_that_slept_through_it_all_agrees(trainer: Trainer, nats_server: NatsServer) -> None:
    client = await connect(nats_server.url, "sleeper")
    log, slept = EventLog(client), RunProjections(LabelingState.begin)
    following = log.follow()
    async for recorded in following:
        slept.apply(recorded)
        if recorded.sequence == 4:
            break
    await archive(trainer)
    await fill(trainer.client, run_events("next", 3, 3, ended=True))
    last = await log.last_sequence()
    async with asyncio.timeout(PATIENCE_S):
        async for recorded in log.follow(after=4):
            slept.apply(recorded)
            if recorded.sequence == last:
                break
    assert [*slept.runs] == ["next"]
    assert [*slept.archived.runs] == ["r"]
    await client.close()


async def test_what_was_purged_is_no_rollback(trainer: Trainer) -> None:
    await archive(trainer)
    trainer.log._rollback_guard.suspect = True
    await trainer.log._rollback_guard.check()


async def test_what_is_gone_without_an_archive_is_a_rollback(trainer: Trainer) -> None:
    await jetstream(trainer.client).purge_stream(STREAM, subject="labelloop.v1.r.0.label.>")
    trainer.log._rollback_guard.suspect = True
    with pytest.raises(LogRolledBack):
        await trainer.log._rollback_guard.check()


async def test_a_run_is_purged_only_up_to_its_archive(trainer: Trainer) -> None:
    with pytest.raises(WrongState, match="is not archived"):
        await trainer.log.purge_archived("r", len(EVENTS) + 1)
    archived = await trainer.archiving.archive("r")
    with pytest.raises(WrongState, match="is not archived"):
        await trainer.log.purge_archived("r", archived.sequence + 1)
    assert len(await subjects(trainer)) == len(EVENTS) + 1


async def test_a_stream_of_an_earlier_release_keeps_all_and_says_so(nats_server: NatsServer, begin: Begin) -> None:
    client = await connect(nats_server.url, "earlier")
    config = StreamConfig(name=STREAM, subjects=[EVERYTHING], deny_purge=True, deny_delete=True)
    await jetstream(client).add_stream(config)
    await fill(client, iter(EVENTS))
    await client.close()
    trainer = await begin()
    with pytest.raises(WrongState, match="earlier release"):
        await trainer.archiving.archive("r")
    assert "r" in trainer.projections.runs


async def test_a_restored_run_is_what_it_was(trainer: Trainer, begin: Begin) -> None:
    before = repr(trainer.projections.get("r"))
    await archive(trainer)
    await trainer.archiving.restore("r")
    assert repr(trainer.projections.get("r")) == repr((await begin()).projections.get("r")) == before
    await archive(trainer)
    assert await subjects(trainer) == ["labelloop.v1.r.1.run_archived"]


async def test_a_run_is_restored_after_late_events_were_cleared_away(trainer: Trainer) -> None:
    before = repr(trainer.projections.get("r"))
    await archive(trainer)
    await trainer.log.append_once(EVENTS[4])
    with pytest.raises(WrongState, match="clears that away"):
        await trainer.archiving.restore("r")
    await archive(trainer)
    await trainer.archiving.restore("r")
    assert repr(trainer.projections.get("r")) == before


@pytest.mark.parametrize("turns", [0, 3, 10, 30, 100])
async def test_a_broker_killed_while_it_purges_leaves_the_run_archived(
    trainer: Trainer, nats_server: NatsServer, begin: Begin, turns: int
) -> None:
    await fill(trainer.client, run_events("large", 1_000, 50, ended=True))
    await trainer.caught_up()
    before = repr(trainer.projections.get("large"))
    archived = await trainer.archiving.archive("large")
    purging = asyncio.create_task(trainer.log.purge_archived("large", archived.sequence))
    for _ in range(turns):  # of the event loop, so that the request is under way or not
        await asyncio.sleep(0)
    os.kill(nats_server.pid, signal.SIGKILL)
    with pytest.raises(WrongState):
        await nats_server.wait()
    await nats_server.start()
    other = await begin()
    assert [*other.projections.runs] == ["r"]
    assert repr(await other.past_runs.state("large")) == before
    async with asyncio.timeout(PATIENCE_S):
        await purging
    standing = [each async for each in other.log.read_all("large")]
    assert [each.sequence for each in standing] == [archived.sequence]
    assert await other.log.started_runs() == {"r"}


class CrashingLog(EventLog):
    """A log whose process ends before its ``at``-th write, or just after it."""

    def __init__(self, client: Client, at: int, *, after: bool) -> None:
        super().__init__(client)
        self._at, self._after, self._writes = at, after, 0

    async def _write_as(self, sequence: int, subject: str, data: bytes) -> int | None:
        return await self._counted(super()._write_as(sequence, subject, data))

    async def append_once(self, event: pb.Event) -> Any:
        return await self._counted(super().append_once(event))

    async def purge_archived(self, run_id: str, sequence: int) -> None:
        await self._counted(super().purge_archived(run_id, sequence))

    async def _counted(self, work: Coroutine[Any, Any, T]) -> T:
        self._writes += 1
        if self._writes == self._at and not self._after:
            work.close()
            raise Crash
        done = await work
        if self._writes == self._at:
            raise Crash
        return done


def states(trainer: Trainer) -> Sequence[str]:
    """Return whether the run is live or archived: one of both, always."""
    found = [
        name
        for name, held in (("live", trainer.projections.runs), ("archived", trainer.projections.archived))
        if "r" in held
    ]
    assert len(found) == 1, found
    return found


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", [1, 2, 3, 4, 9, len(EVENTS) + 2, len(EVENTS) + 3, len(EVENTS) + 4, len(EVENTS) + 5])
async def test_a_crash_between_any_two_steps_leaves_the_run_live_or_archived(
    trainer: Trainer, begin: Begin, at: int, *, after: bool
) -> None:
    before = repr(trainer.projections.get("r"))
    trainer.log = CrashingLog(trainer.client, at, after=after)
    steps = (archive, restore, archive)
    crashed = False
    for step in steps:
        try:
            await step(trainer)
        except Crash:
            crashed = True
            other = await begin()
            states(other)
            await trainer.caught_up()
            assert states(trainer) == states(other)
            await step(other)
            trainer = other
        await trainer.caught_up()
    assert crashed
    fresh = await begin()
    assert states(fresh) == ["archived"]
    assert repr(await fresh.past_runs.state("r")) == before
