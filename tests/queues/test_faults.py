"""What tools and networks do to a campaign, end to end: real tools, real services, the run as it must end.

Each run asks for ten labels. At its end each of them is what was said first, none is missing, and none was paid for
twice: the tool was asked for each sample once, but where a test says otherwise.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import pytest
from labelloop.events.v1.events_pb2 import Protocol, QueueSpec
from labelloop.oracle.v1.oracle_pb2 import (
    CancelRequestsRequest,
    DeadLetter,
    ListDeadLettersRequest,
)
from labelloop.trainer.v1.trainer_pb2 import GetRunRequest, Phase, RunStatus, StartRunRequest
from labelloop_cli.clients import Clients, connect
from labelloop_cli.local.stack import Page, Stack, running
from numpy.typing import NDArray

from tests.blobs import spec, write_blobs
from tests.patience import PATIENCE_S
from tests.queues.all_tools import all_tools
from tests.queues.label_studio_tool import LabelStudioTool
from tests.queues.tool import Tool
from tests.queues.tools import TOOLS

pytestmark = pytest.mark.timeout(1_200)
Start = Callable[[Path], AbstractAsyncContextManager[Tool]]
RUN = "campaign"
AWAY_S = 60.0 if all_tools() else 0.0
QUEUE = 2


@dataclass
class Campaign:
    """A run, the tool that people label in, and what they know."""

    tool: Tool
    stack: Stack
    clients: Clients
    truth: NDArray[np.int32]
    crash_at: Path
    asked: list[str] = field(default_factory=list)

    async def begin(self, *, label_budget: int = 10, **queue: Any) -> None:
        changed = spec(
            write_blobs(self.crash_at.parent),
            label_source=QUEUE,
            label_budget=label_budget,
            auto_label_budget=0,
            stopping_sample_count=0,
            protocol=Protocol.PROTOCOL_HONEST,
            queue=QueueSpec(tool=self.tool.name, **queue),
        )
        await self.clients.trainer.StartRun(StartRunRequest(run_id=RUN, spec=changed))

    async def next_requests(self, count: int) -> list[str]:
        """The ids of the next ``count`` requests, as the tool brings them."""
        found: list[str] = []
        async with asyncio.timeout(PATIENCE_S):
            while len(found) < count:
                found += [request["request_id"] for request in await self.tool.requests()]
                await asyncio.sleep(0.05)
        self.asked += found
        return found

    def right(self, request_id: str, **more: Any) -> dict[str, Any]:
        """The right answer."""
        return {"request_id": request_id, "label": int(self.truth[sample(request_id)]), "annotator": "kim", **more}

    async def answer(self, request_ids: Sequence[str], annotator: str = "kim") -> None:
        for request_id in request_ids:
            await self.tool.answer(self.right(request_id, annotator=annotator))

    async def answer_all(self) -> None:
        """Label whatever comes until the run is over."""
        while not await self.is_over():
            fresh = [request["request_id"] for request in await self.tool.requests()]
            self.asked += fresh
            await self.answer(fresh)
            await asyncio.sleep(0.05)

    async def cancel(self, request_ids: Sequence[str]) -> None:
        samples = [sample(request_id) for request_id in request_ids]
        await self.clients.oracle.CancelRequests(CancelRequestsRequest(run_id=RUN, sample_ids=samples))

    @asynccontextmanager
    async def away(self, *, at_least_s: float = 0.0) -> AsyncIterator[None]:
        """The tool is, for so long, and until the oracle has failed to reach it twice."""
        sign, times = ("broker_disconnected", 1) if self.tool.name == "nats" else ("requests_not_delivered", 2)
        log, back_s = self.stack.services["oracle"].log_file, monotonic() + at_least_s
        before = log.read_text().count(sign)

        async def is_missed() -> bool:
            return log.read_text().count(sign) >= before + times

        await self.tool.go_down()
        yield
        await until(is_missed)
        await asyncio.sleep(back_s - monotonic())
        await self.tool.come_back()

    async def has_crashed(self) -> bool:
        return not self.crash_at.exists()

    async def is_over(self) -> bool:
        return (await self.status()).phase >= Phase.PHASE_FINISHED

    async def has_paid_two(self) -> bool:
        return (await self.status()).labels_paid == 2

    async def status(self) -> RunStatus:
        return (await self.clients.trainer.GetRun(GetRunRequest(run_id=RUN), wait_for_ready=True)).run

    async def dead_letters(self, count: int) -> list[DeadLetter]:
        """Once there are so many."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                request = ListDeadLettersRequest()
                letters = list((await self.clients.oracle.ListDeadLetters(request, wait_for_ready=True)).letters)
                if len(letters) >= count:
                    return letters
                await asyncio.sleep(0.05)

    async def check_end(self, *, asked_once: bool = True, count: int = 10) -> None:
        """The run ends with the labels that were said first, each paid for once."""
        await until(self.is_over)
        status, records = await self.status(), await self.clients.labels(RUN)
        assert (status.phase, status.labels_paid, len(records)) == (Phase.PHASE_FINISHED, count, count)
        assert {record.sample_id: record.label for record in records} == {
            record.sample_id: self.truth[record.sample_id] for record in records
        }
        assert {record.source for record in records} == {f"queue:{self.tool.name}"}
        assert {sample(request_id) for request_id in self.asked} >= {record.sample_id for record in records}
        if asked_once:
            assert len(self.asked) == len(set(self.asked)), "something was asked for twice"


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if await holds():
                return
            await asyncio.sleep(0.05)


def sample(request_id: str) -> int:
    return int(request_id.split("/")[2])


@pytest.fixture(params=TOOLS, ids=lambda start: start.__name__)
async def campaign(
    request: pytest.FixtureRequest, tmp_path: Path, nats_binary: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Campaign]:
    async with started(request.param, tmp_path, monkeypatch) as made:
        yield made


@asynccontextmanager
async def started(start: Start, folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Campaign]:
    crash_at = folder / "crash_at"
    monkeypatch.setenv("LABELLOOP_CRASH_AT", str(crash_at))
    async with start(folder) as tool:
        for name, value in tool.environment.items():
            monkeypatch.setenv(name, value)
        async with running(folder / "store", page=Page()) as stack, connect(stack.endpoints) as clients:
            await tool.connect(stack)
            truth = np.load(write_blobs(folder).labels)
            yield Campaign(tool, stack, clients, truth, crash_at)


async def test_people_label_in_the_tool_until_the_run_ends(campaign: Campaign) -> None:
    await campaign.begin()
    await campaign.answer_all()
    await campaign.check_end()


async def test_answers_that_come_twice_late_and_out_of_order_change_nothing(campaign: Campaign) -> None:
    await campaign.begin()
    first = await campaign.next_requests(5)
    await campaign.answer(first[::-1])
    await campaign.answer(first)
    second = await campaign.next_requests(5)
    for request_id in first:
        wrong = (int(campaign.truth[sample(request_id)]) + 1) % 3
        await campaign.tool.answer({"request_id": request_id, "label": wrong, "annotator": "late"})
    await campaign.answer(second)
    await campaign.check_end()


async def test_what_cannot_be_an_answer_is_kept_and_stops_nobody(campaign: Campaign) -> None:
    await campaign.begin()
    first = await campaign.next_requests(5)
    await campaign.tool.answer({"request_id": first[0], "class_name": "eleven", "annotator": "kim"})
    for unknown in (f"{RUN}/0/299", "nobody/0/3/0"):
        if isinstance(campaign.tool, LabelStudioTool):
            await campaign.tool.put(unknown)
        await campaign.tool.answer({"request_id": unknown, "class_name": "1", "annotator": "kim"})
    letters = await campaign.dead_letters(3)
    assert {letter.reason for letter in letters} == {"UNKNOWN_CLASS", "NOT_ASKED_FOR", "UNKNOWN_RUN"}
    if not isinstance(campaign.tool, LabelStudioTool):  # there it is still to be answered
        assert await campaign.next_requests(1) == first[:1], "the tool was done with it"
    await campaign.answer(first, "lee")
    await campaign.answer_all()
    await campaign.check_end(asked_once=isinstance(campaign.tool, LabelStudioTool))


async def test_what_is_withdrawn_while_its_batch_is_open_is_asked_again(campaign: Campaign) -> None:
    if isinstance(campaign.tool, LabelStudioTool):
        pytest.skip("what is withdrawn there is there to be answered again")
    await campaign.begin()
    first = await campaign.next_requests(5)
    await campaign.answer(first[:1])
    await campaign.tool.answer({"request_id": first[0], "annotator": "kim", "withdrawn": True, "revision": 1})
    assert await campaign.next_requests(1) == first[:1]
    await campaign.tool.answer(campaign.right(first[0], revision=2))
    await campaign.answer(first[1:])
    await campaign.answer_all()
    await campaign.check_end(asked_once=False)


async def test_a_tool_that_is_away_gets_and_gives_everything_when_it_is_back(
    request: pytest.FixtureRequest, campaign: Campaign
) -> None:
    """Twice: before it has got anything, and in mid-batch. ``make test-queues`` lets the second absence last a minute,
    for a tool of each kind: the broker itself, RabbitMQ, SQS (a standard queue), a webhook, and Label Studio."""
    if campaign.tool.name == "nats":  # the log is away with it: a run cannot even be started
        await campaign.begin()
    else:
        async with campaign.away():
            await campaign.begin()
    first = await campaign.next_requests(5)
    await campaign.answer(first[:2])
    await until(campaign.has_paid_two)
    async with campaign.away(at_least_s=AWAY_S if request.node.callspec.id != "sqs_fifo" else 0.0):
        if campaign.tool.name == "nats":
            late = first[2:]
        else:
            late = []
            await campaign.cancel(first[2:])  # others are asked for instead, and do not get there
    await campaign.answer(late)
    await campaign.answer_all()
    # A RabbitMQ that is killed brings again what was taken from it just before.
    await campaign.check_end(asked_once=campaign.tool.name != "amqp")


async def test_an_oracle_that_dies_while_results_come_loses_none(campaign: Campaign) -> None:
    await campaign.begin()
    await campaign.stack.while_up(_die_between_answers(campaign))


async def _die_between_answers(campaign: Campaign) -> None:
    first = await campaign.next_requests(5)
    await _die_at(campaign, "before append label_provided#2", campaign.answer(first))
    second = await campaign.next_requests(5)
    await _die_at(campaign, "after append label_provided#3", campaign.answer(second))
    # Some answers come before the oracle has noted that all requests are in the tool: it may ask again.
    await campaign.check_end(asked_once=False)


async def _die_at(campaign: Campaign, point: str, work: Awaitable[None]) -> None:
    """Do ``work``, and return once the oracle has died at that point and is there again: what it comes to while it
    starts would end the stack."""
    oracle = campaign.stack.services["oracle"]
    deaths = oracle.restarts

    async def is_there_again() -> bool:
        return oracle.restarts > deaths and oracle.ready_file.exists()

    campaign.crash_at.write_text(point)
    await work
    await until(campaign.has_crashed)
    await until(is_there_again)


@pytest.mark.parametrize("side", ["before", "after"])
async def test_an_oracle_that_dies_on_either_side_of_a_push_a_dead_letter_and_a_retraction_loses_nothing(
    campaign: Campaign, side: str
) -> None:
    """Behind each of them somebody has not heard of it yet: the leases that requests were put into the tool, or are no
    longer there, and the tool that its result is kept, so that it brings the result again."""

    async def work() -> None:
        await _die_at(campaign, f"{side} push", campaign.begin())
        first = await campaign.next_requests(5)
        wrong = {"request_id": first[0], "class_name": "eleven", "annotator": "kim"}
        await _die_at(campaign, f"{side} keep", campaign.tool.answer(wrong))
        await campaign.dead_letters(1)
        await _die_at(campaign, f"{side} retract", campaign.answer(first, "lee"))
        await campaign.answer_all()

    await campaign.stack.while_up(work())
    await campaign.check_end(asked_once=False)
    assert [letter.reason for letter in await campaign.dead_letters(1)] == ["UNKNOWN_CLASS"]


async def test_what_is_never_answered_is_replaced_and_an_answer_behind_the_deadline_is_kept(
    campaign: Campaign,
) -> None:
    await campaign.begin(deadline_s=12)
    first = await campaign.next_requests(5)
    await campaign.answer(first[1:])
    instead = await campaign.next_requests(1)
    if not isinstance(campaign.tool, LabelStudioTool):  # else it is gone from there
        await campaign.answer(first[:1])
        assert [letter.reason for letter in await campaign.dead_letters(1)] == ["TOO_LATE"]
    await campaign.answer(instead)
    await campaign.answer_all()
    await campaign.check_end()
    assert (await campaign.status()).samples_skipped == 1
