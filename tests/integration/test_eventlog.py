"""The event log on a real broker."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from labelloop.domain.limits import AUDIT_MAX
from labelloop.errors import LogRolledBack, WrongState
from labelloop.eventlog.connection import connect
from labelloop.eventlog.log import EventLog, Recorded
from labelloop.eventlog.subjects import STREAM, subject_of
from labelloop.events.v1.events_pb2 import (
    Event,
    LabelProvided,
    LabelsRequested,
    Purpose,
    RunCancelled,
    RunFinished,
    SamplesAutoLabelled,
)
from labelloop_cli.local.nats.server import NatsServer
from nats.aio.client import Client

from tests.patience import PATIENCE_S
from trainer_svc.domain.run_state import AUTO_LABELS_AT_ONCE
from trainer_svc.domain.spec_validation import BATCH_MAX


def finished(reason: str, run_id: str = "r") -> Event:
    return Event(run_id=run_id, round=1, run_finished=RunFinished(reason=reason))


def label(sample_id: int) -> Event:
    return Event(run_id="r", round=0, label_provided=LabelProvided(sample_id=sample_id, label=1))


@asynccontextmanager
async def opened(server: NatsServer) -> AsyncIterator[tuple[Client, EventLog]]:
    client = await connect(server.url, "test")
    try:
        log = EventLog(client)
        await log.ensure_stream()
        yield client, log
    finally:
        await client.close()


async def take(log: EventLog, count: int) -> list[Recorded]:
    taken: list[Recorded] = []
    async with asyncio.timeout(PATIENCE_S):
        async for recorded in log.follow():
            taken.append(recorded)
            if len(taken) == count:
                return taken
    raise AssertionError("follow never ends by itself")


def largest_events() -> dict[str, Event]:
    """Return the largest events of a run: the most samples that are allowed at once, with the largest numbers."""
    made = {}
    for name, count in (("batch", BATCH_MAX), ("audit", AUDIT_MAX)):
        request = LabelsRequested(
            sample_ids=range(2**32 - count, 2**32),
            predicted=[2**16] * count,
            confidence=[0.7] * count,
            score=[0.7] * count,
            purposes=[Purpose.PURPOSE_AUDIT] * count,
        )
        made[name] = Event(run_id="r" * 64, labels_requested=request)
    count = AUTO_LABELS_AT_ONCE
    given = SamplesAutoLabelled(
        sample_ids=range(2**32 - count, 2**32), classes=[2**16] * count, confidence=[0.7] * count
    )
    return made | {"auto-labels": Event(run_id="r" * 64, samples_auto_labelled=given)}


@pytest.mark.parametrize("name", largest_events())
async def test_the_largest_events_fit_into_a_message_of_a_broker_with_default_limits(
    name: str, nats_server: NatsServer
) -> None:
    event = largest_events()[name]
    async with opened(nats_server) as (client, log):
        assert client.max_payload == 1024 * 1024
        recorded = await log.append_once(event)
        assert recorded.ours
        assert (await take(log, 1))[0].event == event


async def test_a_second_write_to_a_subject_returns_the_first_event(nats_server: NatsServer) -> None:
    async with opened(nats_server) as (_, log):
        first = await log.append_once(finished("first"))
        second = await log.append_once(finished("second"))
    assert second.event is not None
    assert second.event.run_finished.reason == "first"
    assert second.sequence == first.sequence


async def test_concurrent_writers_agree_on_one_winner(nats_server: NatsServer) -> None:
    async with opened(nats_server) as (_, ours), opened(nats_server) as (_, theirs):
        logs = [ours, theirs] * 10
        standing = await asyncio.gather(*(log.append_once(finished(str(i))) for i, log in enumerate(logs)))
        assert await ours.last_sequence() == 1
    assert len({recorded.event.run_finished.reason for recorded in standing if recorded.event}) == 1


async def test_a_run_is_read_from_any_sequence_to_its_last_event(nats_server: NatsServer) -> None:
    async with opened(nats_server) as (_, log):
        for sample_id in range(3):
            await log.append_once(label(sample_id))
        other = await log.append_once(finished("another run's", run_id="s"))
        for after, expected in ((0, [1, 2, 3]), (2, [3]), (3, []), (other.sequence, []), (2**63, [])):
            async with asyncio.timeout(PATIENCE_S):
                assert [recorded.sequence async for recorded in log.read_on("r", after)] == expected
        assert [recorded async for recorded in log.read_on("nobody")] == []


async def test_following_yields_every_event_in_order_including_later_ones(nats_server: NatsServer) -> None:
    async with opened(nats_server) as (_, log):
        for sample_id in range(50):
            await log.append_once(label(sample_id))
        following = asyncio.create_task(take(log, 60))
        for sample_id in range(50, 60):
            await log.append_once(label(sample_id))
        taken = await following
    assert [recorded.event.label_provided.sample_id for recorded in taken if recorded.event] == list(range(60))
    assert [recorded.sequence for recorded in taken] == list(range(1, 61))


async def test_following_survives_a_killed_broker_without_gap_or_repeat(nats_server: NatsServer) -> None:
    async with opened(nats_server) as (_, log):
        following = asyncio.create_task(take(log, 40))
        for sample_id in range(20):
            await log.append_once(label(sample_id))
        os.kill(nats_server.pid, signal.SIGKILL)
        waiting = asyncio.create_task(log.append_once(label(20)))  # succeeds once the broker is back
        with pytest.raises(WrongState):
            await nats_server.wait()
        await nats_server.start()
        await waiting
        for sample_id in range(21, 40):
            await log.append_once(label(sample_id))
        taken = await following
    assert [recorded.event.label_provided.sample_id for recorded in taken if recorded.event] == list(range(40))


async def put_back(server: NatsServer, store: Path) -> None:
    """Start the server on the copy of its store that :func:`kept` made."""
    shutil.rmtree(store)
    store.with_name("kept").rename(store)
    await server.start()


async def kept(server: NatsServer, store: Path) -> None:
    """Copy the server's store as it is now, and restart the server."""
    await server.stop()
    shutil.copytree(store, store.with_name("kept"))
    await server.start()


@pytest.mark.parametrize("instead", [[], [label(7)], [label(7), label(8)]])
async def test_following_fails_if_the_broker_lost_an_event_that_was_read(
    nats_server: NatsServer, tmp_path: Path, instead: list[Event]
) -> None:
    """As with a node that was cut off, the broker's store is restored to its state before the last event."""
    store = tmp_path / "nats"
    async with opened(nats_server) as (_, log):
        await log.append_once(label(0))
        await kept(nats_server, store)
        following = asyncio.create_task(take(log, 3))
        await log.append_once(label(1))
        async with asyncio.timeout(PATIENCE_S):
            async for recorded in log.follow():
                if recorded.sequence == 2:
                    break
        await nats_server.stop()
        await put_back(nats_server, store)
        async with opened(nats_server) as (_, others):
            for event in instead:
                await others.append_once(event)
            with pytest.raises(LogRolledBack):
                await following
            assert await others.last_sequence() == 1 + len(instead)


async def test_no_event_is_appended_after_the_broker_lost_an_event_that_was_read(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    store = tmp_path / "nats"
    async with opened(nats_server) as (_, log):
        await log.append_once(label(0))
        await kept(nats_server, store)
        await log.append_once(label(1))
        await take(log, 2)
        await nats_server.stop()
        writing = asyncio.create_task(log.append_once(finished("on the strength of label 1")))
        await put_back(nats_server, store)
        with pytest.raises(LogRolledBack):
            await writing
        assert await log.last_sequence() == 1


async def test_following_and_appending_continue_after_a_restart_that_lost_nothing(nats_server: NatsServer) -> None:
    async with opened(nats_server) as (_, log):
        for sample_id in range(3):
            await log.append_once(label(sample_id))
        following = asyncio.create_task(take(log, 4))
        await take(log, 3)
        await nats_server.stop()
        writing = asyncio.create_task(log.append_once(label(3)))
        await nats_server.start()
        await writing
        assert len(await following) == 4


async def test_unreadable_events_are_counted_and_do_not_block_later_ones(nats_server: NatsServer) -> None:
    async with opened(nats_server) as (client, log):
        js = client.jetstream()
        await js.publish("labelloop.v1.r.0.label.9.0", b"\xff not a message")
        misplaced = Event(run_id="other", round=0, run_cancelled=RunCancelled(reason="x"))
        await js.publish("labelloop.v1.r.0.run_cancelled", misplaced.SerializeToString())
        await log.append_once(finished("behind them"))
        taken = await take(log, 3)
        state = (await js.stream_info(STREAM)).state
    assert [recorded.event is None for recorded in taken] == [True, True, False]
    assert log.undecodable == 2
    assert state.messages == 3  # kept for inspection


async def test_a_stream_that_would_discard_events_is_refused(nats_server: NatsServer) -> None:
    client = await connect(nats_server.url, "test")
    try:
        await client.jetstream().add_stream(name=STREAM, subjects=["labelloop.v1.>"], max_msgs=10)
        with pytest.raises(WrongState, match="forget"):
            await EventLog(client).ensure_stream()
    finally:
        await client.close()


async def test_events_cannot_be_deleted(nats_server: NatsServer) -> None:
    async with opened(nats_server) as (client, log):
        recorded = await log.append_once(finished("stays"))
        js = client.jetstream()
        with pytest.raises(Exception, match="delete"):
            await js.delete_msg(STREAM, recorded.sequence)
        assert await log.last_sequence() == recorded.sequence


def test_every_subject_names_run_round_and_kind() -> None:
    assert subject_of(finished("x")) == "labelloop.v1.r.1.run_finished"
    assert subject_of(label(12)) == "labelloop.v1.r.0.label.12.0"
