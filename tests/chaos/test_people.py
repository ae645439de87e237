"""Runs of three annotators under faults, and that the comparison with a quiet run would show one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
from labelloop.events.v1.events_pb2 import AnswerGiven, Event, LabelProvided, LabelsRequested, ModelTrained
from labelloop.trainer.v1.trainer_pb2 import LabelRecord

from tests.blobs import CLASSES, write_blobs
from tests.chaos.campaign import Campaign, campaign
from tests.chaos.endings import Ending, Result, differences, ending_of, result_faults
from tests.chaos.faults_people import EVERYTHING, KILLS, with_people
from tests.chaos.people import DAWID_SKENE, PEOPLE, RULES, Rule, Said, differed_on, order_faults

SEED = 3  # of the published protocol, whose fits are much faster


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def trials(tmp_path_factory: pytest.TempPathFactory, nats_binary: Path) -> AsyncIterator[Campaign]:
    async with campaign(tmp_path_factory.mktemp("chaos"), nats_binary) as carried_out:
        yield carried_out


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
async def test_three_annotators_end_with_the_labels_of_a_quiet_run(trials: Campaign, rule: Rule) -> None:
    outcome = await trials.try_out(with_people(KILLS, EVERYTHING, [rule]), SEED)
    assert not outcome.violations


class Sayings:
    """What simulated people say of the samples of a pool."""

    def __init__(self, folder: Path) -> None:
        self.truth: list[int] = np.load(write_blobs(folder).labels).tolist()
        self._people = {person.name: person for person in PEOPLE}

    def __call__(self, name: str, sample_id: int) -> Said:
        return self._people[name].says(sample_id, self.truth[sample_id], CLASSES)


@pytest.fixture
def says(tmp_path: Path) -> Sayings:
    return Sayings(tmp_path)


def _batches(size: int) -> list[list[int]]:
    return [[*range(begin, begin + size)] for begin in range(40, 160, size)]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_no_order_of_answers_decides_a_label(rule: Rule, says: Sayings) -> None:
    batches = _batches(rule.batch_size)
    assert len(differed_on(batches, says)) > 20
    assert not order_faults(rule, batches, says, {each: says.truth[each] for each in range(rule.gold)})


@pytest.mark.parametrize(
    "rule",
    [
        replace(DAWID_SKENE, batch_size=2),
        replace(DAWID_SKENE, annotators=2),
    ],
    ids=["two samples at a time", "two asked at first"],
)
def test_an_order_that_decides_a_label_is_noticed(rule: Rule, says: Sayings) -> None:
    gold = {each: says.truth[each] for each in range(rule.gold)}
    assert order_faults(rule, _batches(rule.batch_size), says, gold)


def _events() -> list[Event]:
    requested = Event(run_id="r", labels_requested=LabelsRequested(sample_ids=[4]))
    given = [
        Event(run_id="r", answer_given=AnswerGiven(sample_id=4, slot=slot, annotator=person.name, label=1))
        for slot, person in enumerate(PEOPLE)
    ]
    label = Event(run_id="r", label_provided=LabelProvided(sample_id=4, label=1))
    return [requested, *given, label, Event(run_id="r", round=1, model_trained=ModelTrained(model_sha256="m"))]


def _ending(events: list[Event], label: int = 1) -> Ending:
    return ending_of(events, [LabelRecord(sample_id=4, label=label)], all_asked=True)


def test_the_order_of_answers_makes_no_difference() -> None:
    asked, first, second, third, *rest = _events()
    assert not differences(_ending(_events()), _ending([asked, third, first, second, *rest]))


def test_every_difference_from_a_quiet_run_is_noticed() -> None:
    quiet = _ending(_events())
    for place, expected in ((0, "requested"), (1, "in one run only"), (4, "outcome"), (5, "model")):
        events = _events()
        del events[place]
        assert any(expected in found for found in differences(quiet, _ending(events)))
    assert differences(quiet, _ending(_events(), label=2)) == [
        "the label of sample 4 is (2, False) instead of (1, False)"
    ]


def test_a_lost_and_a_doubled_result_are_noticed() -> None:
    events = _events()
    said: list[Result] = [(person.name, 4, 1) for person in PEOPLE]
    assert not result_faults(events, said)
    assert result_faults(events, [*said, ("lee", 4, 2)]) == ["(a) lee's result 2 for sample 4 is lost"]
    again = AnswerGiven(sample_id=4, slot=3, annotator="lee", label=1)
    assert result_faults([*events, Event(run_id="r", answer_given=again)], said) == [
        "(c) lee counts 2 times for sample 4"
    ]
