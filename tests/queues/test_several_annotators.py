"""Three people, of whom one is often wrong, label a run in a tool to its end: what is asked of whom, what comes of it,
and what is known of each of them then."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path

import pytest
from labelloop.events.v1.events_pb2 import AgreementRule, AnswerGiven, GoldSample
from labelloop.oracle.v1.oracle_pb2 import GetBacklogRequest, ListAnswersRequest
from labelloop.trainer.v1.trainer_pb2 import Phase

from tests.queues.label_studio_tool import LabelStudioTool
from tests.queues.test_faults import RUN, Campaign, Start, sample, started
from tests.queues.tool import Tool
from tests.queues.tools import TOOLS, label_studio, nats

pytestmark = pytest.mark.timeout(300)
FIRST, SECOND, THIRD = "errs", "kim", "lee"
PEOPLE = (FIRST, SECOND, THIRD)  # the last is asked where the others differ
GOLD = (291, 294, 290)
BUDGET = 40


@pytest.fixture(params=[each for each in (nats, label_studio) if each in TOOLS], ids=lambda start: start.__name__)
async def campaign(
    request: pytest.FixtureRequest, tmp_path: Path, nats_binary: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Campaign]:
    start: Start = request.param
    async with started(start, tmp_path, monkeypatch) as made:
        yield made


async def test_a_bad_annotator_makes_disputes_and_no_wrong_label(campaign: Campaign) -> None:
    truth = campaign.truth
    gold = [GoldSample(sample_id=each, label=int(truth[each])) for each in GOLD]
    rule = AgreementRule.AGREEMENT_RULE_DAWID_SKENE
    await campaign.begin(label_budget=BUDGET, annotators=2, annotators_max=3, agreement=rule, gold=gold)
    said = await label_to_the_end(campaign)

    status, records = await campaign.status(), await campaign.clients.labels(RUN)
    assert (status.phase, status.labels_paid, len(records)) == (Phase.PHASE_FINISHED, BUDGET, BUDGET)
    assert {record.sample_id: record.label for record in records} == {
        record.sample_id: truth[record.sample_id] for record in records
    }
    assert {record.source for record in records} == {"agreement"}
    assert not {record.sample_id for record in records} & set(GOLD)

    answers = await heard(campaign)
    assert Counter(each.annotator.partition("@")[0] for each in answers) == Counter(who for who, _ in said)
    asked_thrice = {each for who, each in said if who == THIRD} - set(GOLD)
    assert asked_thrice, "nobody was asked where the others differed"
    assert asked_thrice <= {record.sample_id for record in records if errs_at(record.sample_id)}

    [run] = (await campaign.clients.oracle.GetBacklog(GetBacklogRequest(run_id=RUN))).runs
    assert (run.open, run.disputed, run.labelled) == (0, 0, BUDGET)
    known = {each.annotator.partition("@")[0]: each for each in run.annotators}
    labelled_gold = {who: [each for name, each in said if name == who and each in GOLD] for who in PEOPLE}
    assert labelled_gold[FIRST]
    for who in PEOPLE:
        right = [each for each in labelled_gold[who] if who != FIRST or not errs_at(each)]
        assert (known[who].gold, known[who].gold_right) == (len(labelled_gold[who]), len(right))
    assert known[FIRST].agreed == BUDGET - sum(errs_at(record.sample_id) for record in records)
    assert known[SECOND].agreed == known[SECOND].compared == known[FIRST].compared == BUDGET


def errs_at(sample_id: int) -> bool:
    """Where the bad annotator takes one class for the next."""
    return sample_id % 3 == 0


async def label_to_the_end(campaign: Campaign) -> set[tuple[str, int]]:
    """Who answered for which sample."""
    said: set[tuple[str, int]] = set()
    there: set[str] = set()
    while not await campaign.is_over():
        there |= {request["request_id"] for request in await campaign.tool.requests()}
        wanted = list(for_slots(there)) if campaign.tool.name == "nats" else await for_tasks(campaign.tool, there)
        for who, request_id in wanted:
            if (who, sample(request_id)) not in said:
                wrong = who == FIRST and errs_at(sample(request_id))
                label = (int(campaign.truth[sample(request_id)]) + wrong) % 3
                await campaign.tool.answer({"request_id": request_id, "label": label, "annotator": who})
                said.add((who, sample(request_id)))
        await asyncio.sleep(0.05)
    return said


def for_slots(request_ids: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Where a request is for one annotator: each person has a slot."""
    for request_id in request_ids:
        slot = int(request_id.split("/")[3])
        if slot < len(PEOPLE):  # gold samples are there for whoever comes
            yield PEOPLE[slot], request_id


async def for_tasks(tool: Tool, request_ids: Iterable[str]) -> list[tuple[str, str]]:
    """Where a task is for all: the third answers once so many are asked."""
    assert isinstance(tool, LabelStudioTool)
    overlaps = await asyncio.to_thread(tool.overlaps)
    return [(who, each) for each in request_ids if each in overlaps for who in PEOPLE[: overlaps[each]]]


async def heard(campaign: Campaign) -> list[AnswerGiven]:
    events = (await campaign.clients.oracle.ListAnswers(ListAnswersRequest(run_id=RUN))).events
    return [event.answer_given for event in events if event.HasField("answer_given")]
