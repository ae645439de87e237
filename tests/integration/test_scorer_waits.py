"""A run that waits for scorers says so: in its message, in the log, and as a metric."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest
from labelloop.domain.run_owners import RunOwners
from labelloop.errors import LimitExceeded, Unready
from labelloop.eventlog.projections import RunProjections
from labelloop.eventlog.reconciler import reconcile
from labelloop.observability.metrics import OURS
from labelloop.runtime import waits
from labelloop.runtime.waits import told_of_waits, waiting_for
from structlog.testing import capture_logs

from tests.integration.scorers import Pool, Scorer, ranking, scorer_of, scorers, served
from tests.integration.test_scorer_client import rank, whole
from tests.patience import PATIENCE_S
from trainer_svc.scorers.channels import ScorerChannels
from trainer_svc.scorers.client import ScorerClient

SIZES = (100, 200, 300)
FULL = Unready("CACHE_FAILS", "the cache in /pools fails: No space left on device; mend that", retry_after_s=1)
BUSY = LimitExceeded("TOO_MANY_CALLS", "RankPool: 4 calls are being served: try again", retry_after_s=1)


@pytest.fixture(autouse=True)
def _said_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waits, "SAY_AFTER_S", 0.05)
    monkeypatch.setattr(waits, "_LOOK_EVERY_S", 0.02)


class Message:
    """The message of a run, as it changes."""

    def __init__(self) -> None:
        self.text = ""
        self.changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self, text: str) -> None:
        self.text = text
        task = asyncio.create_task(self._notify())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _notify(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    async def until_it_holds(self, *words: str) -> None:
        async with asyncio.timeout(PATIENCE_S), self.changed:
            await self.changed.wait_for(lambda: all(word in self.text for word in words))


def waiting() -> float:
    return OURS.get_sample_value("labelloop_waits", {"what": "scorers"}) or 0.0


@asynccontextmanager
async def asking(scorer_client: ScorerClient, pool: Pool) -> AsyncIterator[Message]:
    """Rank the pool meanwhile; the block must let it succeed."""
    message = Message()
    with told_of_waits(message):
        task = asyncio.create_task(rank(scorer_client, pool))
    yield message
    async with asyncio.timeout(PATIENCE_S):
        assert await task == await whole()
    assert message.text == "", "it goes on"
    assert waiting() == 0


@pytest.mark.parametrize("fault", [FULL, BUSY], ids=["full cache", "busy"])
@pytest.mark.parametrize("count", [1, 2])
async def test_what_scorers_answer_while_they_cannot_is_said(fault: Unready | LimitExceeded, count: int) -> None:
    pool = Pool(*SIZES)
    async with scorers(pool, count) as made, ranking(pool, made) as scorer_client:
        for scorer in made:
            scorer.fault = fault
        with capture_logs() as logs:
            async with asking(scorer_client, pool) as message:
                await message.until_it_holds("RankPool", fault.message, *(scorer.address for scorer in made))
                assert waiting() >= 1
                for scorer in made:
                    scorer.fault = None
    assert [line["what"] for line in logs if line["event"] == "waits"]
    assert [line["what"] for line in logs if line["event"] == "goes_on"]


async def test_the_only_scorer_is_named_while_there_is_no_connection() -> None:
    pool = Pool(*SIZES)
    scorer: Scorer = scorer_of(pool)
    async with served(scorer):
        pass
    async with ranking(pool, [scorer]) as scorer_client, asking(scorer_client, pool) as message:
        await message.until_it_holds(f"the scorer at {scorer.address}: it does not answer: is it up?")
        started = served(scorer)
        await started.__aenter__()
    await started.__aexit__(None, None, None)


async def test_a_name_without_a_scorer_is_said_until_it_has_one() -> None:
    pool, found = Pool(*SIZES), list[str]()

    async def resolve(host: Any) -> list[str]:
        return found

    replicas = ScorerChannels("scorers.internal:50052", lookup=resolve)
    await replicas.look_up()
    async with scorers(pool, 1) as made:
        async with asking(ScorerClient(replicas, pool), pool) as message:
            await message.until_it_holds("no scorer is known", "LABELLOOP_SCORER=scorers.internal:50052")
            found.append(made[0].address)
            await replicas.look_up()
        await replicas.close()


async def test_a_run_shows_what_it_waits_for_until_it_goes_on() -> None:
    run = SimpleNamespace(round=0, over=False)
    projections = RunProjections[Any](lambda event, at: run)
    projections.runs["r"] = cast(Any, run)
    full = True

    async def advance(run_id: str) -> None:
        with waiting_for("scorers", lambda: "the cache is full" if full else ""):
            while full:  # noqa: ASYNC110 - as retries do
                await asyncio.sleep(0.01)

    driving = asyncio.create_task(reconcile(projections, advance, RunOwners()))
    with projections.subscribe("r") as changed:
        async with asyncio.timeout(PATIENCE_S):
            while projections.problems.get("r") != "the cache is full":
                changed.clear()
                await changed.wait()
            assert projections.held_up() == ["r"]
            full = False
            while projections.problems["r"]:
                changed.clear()
                await changed.wait()
    driving.cancel()
    await asyncio.wait([driving])


async def test_two_waits_of_a_run_are_both_said() -> None:
    message, one, other = Message(), ["a"], ["b"]
    with told_of_waits(message), waiting_for("x", lambda: one[0]):
        with waiting_for("x", lambda: other[0]):
            await message.until_it_holds("a; b")
        assert message.text == "a"
    assert message.text == ""


async def test_short_waits_are_not_said() -> None:
    said: list[str] = []
    with told_of_waits(said.append), waiting_for("x", lambda: "something", after_s=PATIENCE_S):
        await asyncio.sleep(0)
    assert said == []
