"""Replicas that tell each other over a real broker that they are there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest
from labelloop.domain.run_log import RunLog
from labelloop.domain.run_owners import SILENT_S, RunOwners
from labelloop.eventlog.connection import connect
from labelloop.eventlog.log import EventLog, Recorded
from labelloop.eventlog.presence import BEAT_S, PREFIX, Presence
from labelloop.eventlog.projections import RunProjections
from labelloop.events.v1.events_pb2 import Event, RunStarted
from labelloop_cli.local.nats.server import NatsServer
from nats.aio.client import Client

from tests.patience import PATIENCE_S

RUNS = [f"run-{number}" for number in range(30)]


class Run:
    def __init__(self) -> None:
        self.over, self.run_log = False, RunLog(RunStarted())

    def apply(self, event: Event, at: Any) -> None: ...


@dataclass(frozen=True)
class Replica:
    name: str
    client: Client
    owners: RunOwners
    projections: RunProjections[Run]
    log: EventLog
    presence: Presence

    @property
    def owned(self) -> set[str]:
        return {run_id for run_id in RUNS if self.owners.mine(run_id)}


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


async def until(condition: Callable[[], object]) -> float:
    """Return the seconds that it took."""
    loop = asyncio.get_running_loop()
    begin = loop.time()
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110  # there is no event to wait for
            await asyncio.sleep(0.01)
    return loop.time() - begin


@asynccontextmanager
async def replica(broker: NatsServer, name: str, *, working: bool = True) -> AsyncIterator[Replica]:
    """A replica that listens and, if it is ``working``, is there; it leaves at the end, in order."""
    client = await connect(broker.url, "trainer")
    projections: RunProjections[Run] = RunProjections(lambda event, at: Run())
    for number, run_id in enumerate(RUNS, 1):
        projections.apply(Recorded(Event(run_id=run_id, run_started=RunStarted()), number))
    owners, log = RunOwners(name), EventLog(client)
    presence = Presence(client, "trainer", owners, projections, log)
    tasks = [asyncio.create_task(presence.listen())]
    if working:
        tasks.append(asyncio.create_task(presence.while_present(forever())))
    try:
        yield Replica(name, client, owners, projections, log, presence)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await client.close()


async def test_three_replicas_share_all_runs(nats_server: NatsServer) -> None:
    async with replica(nats_server, "a") as a, replica(nats_server, "b") as b, replica(nats_server, "c") as c:
        shares = (a, b, c)
        await until(lambda: sum(len(each.owned) for each in shares) == len(RUNS))
        assert set().union(*(each.owned for each in shares)) == set(RUNS)
        assert all(each.owned for each in shares)
        assert sorted(a.presence.owned()) == sorted(a.owned)


async def test_a_replica_that_begins_hears_of_the_others_at_once(nats_server: NatsServer) -> None:
    async with replica(nats_server, "a") as a, replica(nats_server, "b", working=False) as b:
        assert await until(lambda: b.owned != set(RUNS)) < BEAT_S
        assert a.owned == set(RUNS)  # the other listens, and does not work yet
        assert b.presence.owned() == []


async def test_runs_are_handed_over_at_once_when_a_replica_ends(nats_server: NatsServer) -> None:
    async with replica(nats_server, "a") as a:
        async with replica(nats_server, "b"):
            await until(lambda: a.owned != set(RUNS))
        assert await until(lambda: a.owned == set(RUNS)) < SILENT_S / 2


async def test_runs_of_a_replica_that_dies_are_taken_over_and_notified(nats_server: NatsServer) -> None:
    async with replica(nats_server, "a") as a, replica(nats_server, "b") as b:
        await until(lambda: a.owned != set(RUNS))
        with a.projections.subscribe() as changed:
            await b.client.close()  # nothing that it says arrives any more
            assert await until(lambda: a.owned == set(RUNS)) < 5.0
            assert changed.is_set()


async def test_a_replica_that_cannot_record_anything_is_followed(nats_server: NatsServer) -> None:
    async with replica(nats_server, "a") as a, replica(nats_server, "b") as b:
        await until(lambda: a.owned != set(RUNS))
        b.log.writable = False
        await until(lambda: a.owned == set(RUNS))
        b.log.writable = True
        await until(lambda: a.owned != set(RUNS))


async def test_a_problem_of_the_owner_is_known_to_all(nats_server: NatsServer) -> None:
    async with replica(nats_server, "a") as a, replica(nats_server, "b") as b:
        await until(lambda: len(a.owned) + len(b.owned) == len(RUNS))
        run_id = min(b.owned)
        b.owners.hold_up(run_id, "no scorer" * 1_000)
        await until(lambda: a.owners.mine(run_id))
        a.owners.hold_up(run_id, "no scorer either")
        await until(lambda: b.owners.mine(run_id) and not a.owners.mine(run_id))
        assert a.owners.problem(run_id) == ("no scorer" * 1_000)[:500]


async def test_an_outage_of_the_broker_moves_no_run(nats_server: NatsServer) -> None:
    async with replica(nats_server, "a") as a, replica(nats_server, "b") as b:
        await until(lambda: len(a.owned) + len(b.owned) == len(RUNS))
        before = a.owned, b.owned
        await nats_server.stop()
        await asyncio.sleep(SILENT_S + 2 * BEAT_S)
        assert (a.owned, b.owned) == before
        await nats_server.start()
        await until(lambda: a.client.is_connected and b.client.is_connected)
        await asyncio.sleep(SILENT_S + 2 * BEAT_S)
        assert (a.owned, b.owned) == before


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b'{"replica": ""}',
        b'{"replica": "x", "sequence": -1}',
        b'{"replica": "x", "held_up": 3}',
    ],
)
async def test_what_is_no_heartbeat_is_ignored(nats_server: NatsServer, data: bytes) -> None:
    async with replica(nats_server, "a") as a, replica(nats_server, "b"):
        await until(lambda: a.owned != set(RUNS))
        before = a.owned
        await a.client.publish(f"{PREFIX}.trainer", data)
        await a.client.publish(f"{PREFIX}.trainer", b'{"replica": "later", "of_a_later_release": 1}')
        await until(lambda: a.owned < before)  # what came after it was heard


async def test_work_that_fails_is_reported_after_the_others_were_told(nats_server: NatsServer) -> None:
    async def fail() -> None:
        await asyncio.sleep(0)
        raise ZeroDivisionError

    async with replica(nats_server, "a") as a, replica(nats_server, "b", working=False) as b:
        await until(lambda: b.owned != set(RUNS))
        with pytest.raises(ExceptionGroup), suppress(TimeoutError):
            await b.presence.while_present(fail())
        await a.client.flush()
        assert a.owned == set(RUNS)
