"""End-to-end runs under faults of annotation tools and networks, with real tools and real services.

Each run requests ten labels. At its end every label is the one that was given first, none is missing, and none was
paid for twice; the tool was asked for each sample once, except where a test says otherwise.
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
    """A run, the tool that people label in, and the true classes."""

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
        """Return the ids of the next ``count`` requests in the tool."""
        found: list[str] = []
        async with asyncio.timeout(PATIENCE_S):
            while len(found) < count:
                found += [request["request_id"] for request in await self.tool.requests()]
                await asyncio.sleep(0.05)
        self.asked += found
        return found

    def right(self, request_id: str, **more: Any) -> dict[str, Any]:
        """A result with the true class."""
        return {"request_id": request_id, "label": int(self.truth[sample(request_id)]), "annotator": "kim", **more}

    async def answer(self, request_ids: Sequence[str], annotator: str = "kim") -> None:
        for request_id in request_ids:
            await self.tool.answer(self.right(request_id, annotator=annotator))

    async def answer_all(self) -> None:
        """Label every request until the run is over."""
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
        """Take the tool down so long, and until the oracle has failed to reach it twice (NATS: once)."""
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
        """Return them once there are at least ``count``."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                request = ListDeadLettersRequest()
                letters = list((await self.clients.oracle.ListDeadLetters(request, wait_for_ready=True)).letters)
                if len(letters) >= count:
                    return letters
                await asyncio.sleep(0.05)

    async def check_end(self, *, asked_once: bool = True, count: int = 10) -> None:
        """Check that the run finishes with the labels that were given first, each paid for once."""
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
async def started(
    start: Start, folder: Path, monkeypatch: pytest.MonkeyPatch, http_port: int = 0
) -> AsyncIterator[Campaign]:
    crash_at = folder / "crash_at"
    monkeypatch.setenv("LABELLOOP_CRASH_AT", str(crash_at))
    async with start(folder) as tool:
        for name, value in tool.environment.items():
            monkeypatch.setenv(name, value)
        async with running(folder / "store", page=Page(http_port)) as stack, connect(stack.endpoints) as clients:
            await tool.connect(stack)
            truth = np.load(write_blobs(folder).labels)
            yield Campaign(tool, stack, clients, truth, crash_at)


async def test_people_label_in_the_tool_until_the_run_ends(campaign: Campaign) -> None:
    await campaign.begin()
    await campaign.answer_all()
    await campaign.check_end()


async def test_repeated_late_and_reordered_results_change_nothing(campaign: Campaign) -> None:
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


async def test_invalid_results_become_dead_letters_and_stop_no_run(campaign: Campaign) -> None:
    await campaign.begin()
    first = await campaign.next_requests(5)
    await campaign.tool.answer({"request_id": first[0], "class_name": "eleven", "annotator": "kim"})
    for unknown in (f"{RUN}/0/299", "nobody/0/3/0"):
        if isinstance(campaign.tool, LabelStudioTool):
            await campaign.tool.put(unknown)
        await campaign.tool.answer({"request_id": unknown, "class_name": "1", "annotator": "kim"})
    letters = await campaign.dead_letters(3)
    assert {letter.reason for letter in letters} == {"UNKNOWN_CLASS", "NOT_ASKED_FOR", "UNKNOWN_RUN"}
    if not isinstance(campaign.tool, LabelStudioTool):  # there the task is still open
        assert await campaign.next_requests(1) == first[:1], "the tool was done with it"
    await campaign.answer(first, "lee")
    await campaign.answer_all()
    await campaign.check_end(asked_once=isinstance(campaign.tool, LabelStudioTool))


async def test_request_withdrawn_in_an_open_batch_is_sent_again(campaign: Campaign) -> None:
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


async def test_requests_and_results_survive_an_outage_of_the_tool(
    request: pytest.FixtureRequest, campaign: Campaign
) -> None:
    """Down twice: before it has received anything, and within a batch. ``make test-queues`` has the second outage last
    a minute, for a tool of each kind: the broker itself, RabbitMQ, SQS (a standard queue), a webhook, Label Studio."""
    if campaign.tool.name == "nats":  # the event log is down with it: no run can be started
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
            await campaign.cancel(first[2:])  # replacements are requested, and not delivered
    await campaign.answer(late)
    await campaign.answer_all()
    # A killed RabbitMQ redelivers what was taken from it just before.
    await campaign.check_end(asked_once=campaign.tool.name != "amqp")


async def test_oracle_that_crashes_while_receiving_results_loses_none(campaign: Campaign) -> None:
    await campaign.begin()
    await campaign.stack.while_up(_die_between_answers(campaign))


async def _die_between_answers(campaign: Campaign) -> None:
    first = await campaign.next_requests(5)
    await _die_at(campaign, "before append label_provided#2", campaign.answer(first))
    second = await campaign.next_requests(5)
    await _die_at(campaign, "after append label_provided#3", campaign.answer(second))
    # Some results come before the oracle has recorded that all requests were pushed: it may push them again.
    await campaign.check_end(asked_once=False)


async def _die_at(campaign: Campaign, point: str, work: Awaitable[None]) -> None:
    """Do ``work``, and return once the oracle has died at that point and is ready again: a crash point that it reaches
    while it starts would end the stack."""
    oracle = campaign.stack.services["oracle"]
    deaths = oracle.restarts

    async def is_there_again() -> bool:
        return oracle.restarts > deaths and oracle.ready_file.exists()

    campaign.crash_at.write_text(point)
    await work
    await until(campaign.has_crashed)
    await until(is_there_again)


@pytest.mark.parametrize("side", ["before", "after"])
async def test_oracle_crash_around_a_push_dead_letter_or_retraction_loses_nothing(
    campaign: Campaign, side: str
) -> None:
    """After each of them one side does not know of it yet: the leases, that requests were pushed or retracted; the
    tool, that its result was kept, so that it delivers the result again."""

    async def work() -> None:
        await _die_at(campaign, f"{side} push", campaign.begin())
        first = await campaign.next_requests(5)
        wrong = {"request_id": first[0], "class_name": "eleven", "annotator": "kim"}
        await _die_at(campaign, f"{side} keep", campaign.tool.answer(wrong))
        assert [letter.reason for letter in await campaign.dead_letters(1)] == ["UNKNOWN_CLASS"]
        await _die_at(campaign, f"{side} retract", campaign.answer(first, "lee"))
        await campaign.answer_all()

    await campaign.stack.while_up(work())
    await campaign.check_end(asked_once=False)
    assert not await campaign.dead_letters(0), "another annotator answered the request"


async def test_overdue_requests_are_replaced_and_late_results_become_dead_letters(
    campaign: Campaign,
) -> None:
    await campaign.begin(deadline_s=12)
    first = await campaign.next_requests(5)
    await campaign.answer(first[1:])
    instead = await campaign.next_requests(1)
    if not isinstance(campaign.tool, LabelStudioTool):  # there the task has been deleted
        await campaign.answer(first[:1])
        assert [letter.reason for letter in await campaign.dead_letters(1)] == ["TOO_LATE"]
    await campaign.answer(instead)
    await campaign.answer_all()
    await campaign.check_end()
    assert (await campaign.status()).samples_skipped == 1
