"""Verdicts are sent in the background, and hold nothing up."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from structlog.testing import capture_logs

from oracle_svc.integrations import verdict_outbox
from oracle_svc.integrations.verdict_outbox import VerdictOutbox
from tests.patience import PATIENCE_S


class Place:
    """Takes replies, after ``faults`` failures."""

    def __init__(self, faults: int = 0) -> None:
        self.faults, self.taken = faults, list[list[int]]()
        self.changed = asyncio.Event()

    async def send(self, replies: Sequence[int]) -> None:
        self.changed.set()
        if self.faults:
            self.faults -= 1
            raise OSError("away")
        self.taken.append(list(replies))


async def until_taken(place: Place, count: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while sum(map(len, place.taken)) < count:
            place.changed.clear()
            await place.changed.wait()


async def test_replies_are_sent_in_order_some_at_once() -> None:
    place = Place()
    outbox = VerdictOutbox("t", place.send, 4)
    for reply in range(10):
        outbox.put(reply)
    async with outbox.running():
        await until_taken(place, 10)
    assert place.taken == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


async def test_replies_are_dropped_after_some_tries_and_later_ones_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdict_outbox, "_TRIES", 1)
    place = Place(faults=1)
    outbox = VerdictOutbox("t", place.send, 2)
    with capture_logs() as logs:
        for reply in range(3):
            outbox.put(reply)
        async with outbox.running():
            await until_taken(place, 1)
    assert place.taken == [[2]]
    assert [(each["event"], each["count"], each["problem"]) for each in logs] == [("verdicts_dropped", 2, "away")]


async def test_a_full_outbox_drops_replies_and_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdict_outbox, "_WAITING_MAX", 3)
    place = Place()
    outbox = VerdictOutbox("t", place.send, 5)
    with capture_logs() as logs:
        for reply in range(100):
            outbox.put(reply)
        async with outbox.running():
            await until_taken(place, 3)
    assert place.taken == [[0, 1, 2]]
    assert len(logs) == 1
