"""Sessions that were ended before their time, on several oracles at one broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from labelloop.errors import Unready
from labelloop.eventlog.connection import connect
from labelloop_cli.local.nats.server import NatsServer

from oracle_svc.leases import PREFIX, Leases
from oracle_svc.web import ended_sessions
from oracle_svc.web.ended_sessions import ENDED, EndedSessions, SharedEndedSessions
from oracle_svc.web.session import LIFETIME_S, Session, seal, unseal
from tests.patience import PATIENCE_S

TOKEN = "open-sesame"


def session(number: int) -> Session:
    return Session("ada", f"{number:032x}", 9_999_999_999)


@asynccontextmanager
async def following(broker: NatsServer) -> AsyncIterator[SharedEndedSessions]:
    """Yield what one oracle knows once it has caught up."""
    client = await connect(broker.url, "test")
    await Leases(client).ensure_stream()
    ended = SharedEndedSessions(client)
    task = asyncio.create_task(ended.follow())
    try:
        async with asyncio.timeout(PATIENCE_S):
            await ended.caught_up()
        yield ended
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await client.close()


async def test_all_oracles_refuse_an_ended_session_and_so_do_those_started_later(nats_server: NatsServer) -> None:
    async with following(nats_server) as one, following(nats_server) as other, asyncio.timeout(PATIENCE_S):
        await one.end(session(1))
        assert session(1) in one
        await other.caught_up()
        assert session(1) in other
        assert session(2) not in other
    async with following(nats_server) as later:
        assert session(1) in later
        assert session(2) not in later


async def test_what_others_write_beside_sessions_is_passed_over(nats_server: NatsServer) -> None:
    async with following(nats_server) as one:
        client = await connect(nats_server.url, "test")
        for subject in (f"{ENDED}.no-session", f"{PREFIX}.run.0.1.0"):
            await client.jetstream().publish(subject, b'{"holder": "", "expires_at": 0}')
        await one.end(session(3))
        await client.close()
    async with following(nats_server) as later:
        assert session(3) in later


async def test_a_session_that_cannot_be_ended_everywhere_is_ended_here_and_said(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ended_sessions, "_WITHIN_S", 0.2)
    async with following(nats_server) as one:
        await nats_server.stop()
        with pytest.raises(Unready, match="sign out again"):
            await one.end(session(4))
        assert session(4) in one
        await nats_server.start()
        async with asyncio.timeout(PATIENCE_S):
            await one.caught_up()


async def test_ended_sessions_are_remembered_for_as_long_as_cookies_last() -> None:
    clock = 1_000.0
    ended = EndedSessions(lambda: clock)
    cookie = seal("ada", TOKEN, clock)
    found = unseal(cookie, TOKEN, clock)
    assert found is not None
    await ended.end(found)
    clock += LIFETIME_S - 1
    await ended.end(session(1))
    assert found in ended
    clock += 2
    await ended.end(session(2))
    assert unseal(cookie, TOKEN, clock) is None
    assert found not in ended
    assert session(1) in ended


async def test_the_number_of_ended_sessions_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ended_sessions, "_REMEMBERED_MAX", 3)
    ended = EndedSessions()
    for number in range(5):
        await ended.end(session(number))
    assert [number for number in range(5) if session(number) in ended] == [2, 3, 4]
