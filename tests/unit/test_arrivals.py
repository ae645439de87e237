"""Messages of a subscription, one after the other."""

from __future__ import annotations

import asyncio

import pytest
from labelloop.eventlog.arrivals import Arrivals
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import ConnectionClosedError
from nats.errors import TimeoutError as NatsTimeoutError

from tests.patience import PATIENCE_S


def message(number: int) -> Msg:
    return Msg(Client(), subject=str(number))


async def test_messages_come_in_the_order_of_their_arrival_whether_awaited_before_or_after() -> None:
    arrivals = Arrivals(Client())
    early = asyncio.create_task(arrivals.next(PATIENCE_S))
    await asyncio.sleep(0)
    for number in range(3):
        await arrivals.receive(message(number))
    taken = [await early, await arrivals.next(PATIENCE_S), await arrivals.next(PATIENCE_S)]
    assert [each.subject for each in taken] == ["0", "1", "2"]


async def test_silence_is_an_error_of_the_broker() -> None:
    client = Client()
    client._status = Client.CONNECTED
    with pytest.raises(NatsTimeoutError):
        await Arrivals(client).next(0.01)


async def test_a_closed_connection_is_told_at_once() -> None:
    client = Client()
    client._status = Client.CLOSED
    with pytest.raises(ConnectionClosedError):
        await Arrivals(client).next(PATIENCE_S)


async def test_other_tasks_get_their_turn_while_many_messages_are_taken() -> None:
    arrivals, turns = Arrivals(Client()), 0
    for number in range(1_000):
        await arrivals.receive(message(number))

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    running = asyncio.create_task(other())
    for _ in range(1_000):
        await arrivals.next(PATIENCE_S)
    running.cancel()
    assert turns >= 10


async def test_cancelling_a_wait_is_not_lost() -> None:
    client = Client()
    client._status = Client.CONNECTED
    arrivals = Arrivals(client)
    waiting = asyncio.create_task(arrivals.next(PATIENCE_S))
    await asyncio.sleep(0)
    waiting.cancel()
    await arrivals.receive(message(1))
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (await arrivals.next(PATIENCE_S)).subject == "1"
