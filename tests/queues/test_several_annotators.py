"""Three annotators, one often wrong, label a whole run in an annotation tool: who is asked for what, the labels, and
each annotator's quality."""

from __future__ import annotations

import asyncio
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

pytestmark = pytest.mark.timeout(1_200)
FIRST, SECOND, THIRD = "errs", "kim", "lee"
PEOPLE = (FIRST, SECOND, THIRD)  # the last is asked if the others differ
GOLD = (291, 294, 290)
BUDGET = 40
WRONG_MAX = 4  # Dawid and Skene may prefer the wrong one of two


@pytest.fixture(params=[each for each in (nats, label_studio) if each in TOOLS], ids=lambda start: start.__name__)
async def campaign(
    request: pytest.FixtureRequest, tmp_path: Path, nats_binary: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Campaign]:
    start: Start = request.param
    async with started(start, tmp_path, monkeypatch) as made:
        yield made


async def test_a_bad_annotator_causes_disputes_but_few_wrong_labels(campaign: Campaign) -> None:
    gold = [GoldSample(sample_id=each, label=int(campaign.truth[each])) for each in GOLD]
    rule = AgreementRule.AGREEMENT_RULE_DAWID_SKENE
    await campaign.begin(label_budget=BUDGET, annotators=2, annotators_max=3, agreement=rule, gold=gold)
    told = await label_to_the_end(campaign)

    status, labels = await campaign.status(), {}
    for record in await campaign.clients.labels(RUN):
        labels[record.sample_id] = record.label
        assert record.source == "agreement"
    assert (status.phase, status.labels_paid, len(labels)) == (Phase.PHASE_FINISHED, BUDGET, BUDGET)
    assert not set(labels) & set(GOLD)
    assert sum(labels[each] != campaign.truth[each] for each in labels) <= WRONG_MAX
    assert sum(map(errs_at, labels)) > WRONG_MAX, "the bad annotator alone"

    answers = [(each.annotator.partition("@")[0], each.sample_id) for each in await heard(campaign)]
    said = set(answers)
    assert len(said) == len(answers)
    assert said <= told, "what comes behind an agreement is not recorded"
    assert said >= {(who, each) for each in labels for who in (FIRST, SECOND)}
    thrice = {each for who, each in said if who == THIRD} - set(GOLD)
    assert thrice, "nobody was asked where the others differed"
    assert all(map(errs_at, thrice))

    [run] = (await campaign.clients.oracle.GetBacklog(GetBacklogRequest(run_id=RUN))).runs
    assert (run.open, run.disputed, run.labelled) == (0, 0, BUDGET)
    known = {each.annotator.partition("@")[0]: each for each in run.annotators}
    assert known[FIRST].gold > known[FIRST].gold_right
    for who in PEOPLE:
        words = {each: word(campaign, who, each) for name, each in said if name == who}
        gold_words = [words[each] == campaign.truth[each] for each in words if each in GOLD]
        assert (known[who].gold, known[who].gold_right) == (len(gold_words), sum(gold_words))
        assert known[who].compared == len(words) - len(gold_words)
        assert known[who].agreed == sum(labels[each] == words[each] for each in words if each in labels)


def errs_at(sample_id: int) -> bool:
    """Return whether the bad annotator gives this sample the wrong class."""
    return sample_id % 3 == 0


def word(campaign: Campaign, who: str, sample_id: int) -> int:
    return int(campaign.truth[sample_id] + (who == FIRST and errs_at(sample_id))) % 3


async def label_to_the_end(campaign: Campaign) -> set[tuple[str, int]]:
    """Answer all requests; return the pairs of annotator and sample."""
    said: set[tuple[str, int]] = set()
    there: set[str] = set()
    while not await campaign.is_over():
        there |= {request["request_id"] for request in await campaign.tool.requests()}
        wanted = list(for_slots(there)) if campaign.tool.name == "nats" else await for_tasks(campaign.tool, there)
        for who, request_id in wanted:
            if (who, sample(request_id)) not in said:
                label = word(campaign, who, sample(request_id))
                await campaign.tool.answer({"request_id": request_id, "label": label, "annotator": who})
                said.add((who, sample(request_id)))
        await asyncio.sleep(0.05)
    return said


def for_slots(request_ids: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Assign requests for one annotator each: every person has a slot."""
    for request_id in request_ids:
        slot = int(request_id.split("/")[3])
        if slot < len(PEOPLE):  # gold samples have further slots
            yield PEOPLE[slot], request_id


async def for_tasks(tool: Tool, request_ids: Iterable[str]) -> list[tuple[str, str]]:
    """Assign tasks for all annotators: the third answers if a task asks for three."""
    assert isinstance(tool, LabelStudioTool)
    overlaps = await asyncio.to_thread(tool.overlaps)
    return [(who, each) for each in request_ids if each in overlaps for who in PEOPLE[: overlaps[each]]]


async def heard(campaign: Campaign) -> list[AnswerGiven]:
    events = (await campaign.clients.oracle.ListAnswers(ListAnswersRequest(run_id=RUN))).events
    return [event.answer_given for event in events if event.HasField("answer_given")]
