"""Resolution of several annotators' results: simulated crowds, replicas, restarts, and runs of earlier releases."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labelloop.domain.annotators import Annotators
from labelloop.events.v1.events_pb2 import (
    AgreementRule,
    Event,
    GoldSample,
    LabelProvided,
    LabelSource,
    LabelsRequested,
    PoolPublished,
    QueueSpec,
    RunSpec,
    RunStarted,
    SampleSkipped,
)
from labelloop.oracle.v1.oracle_pb2 import LabelResult

from oracle_svc.domain import resolution
from oracle_svc.domain.answer_history import posteriors_at
from oracle_svc.domain.consensus import Label, Skip, Undecided, Vote, decide, posteriors
from oracle_svc.domain.labeling_state import LabelingState, Resolve, next_action
from oracle_svc.domain.open_requests import for_annotator
from oracle_svc.domain.result_validation import admit
from tests.examples import examples
from tests.unit.test_consensus import DISPUTED, SKIPPED, votes
from tests.unit.test_labeling_state import NOW

DAWID_SKENE = AgreementRule.AGREEMENT_RULE_DAWID_SKENE
GOLD = range(90, 98)


@dataclass
class Crowd:
    """A run whose samples annotators label, each right with their own probability, and its log.

    Attributes:
        right: Probability with which each annotator is right.
    """

    right: dict[str, float]
    classes: int = 3
    seed: int = 0
    sample_count: int = 60
    version: int = 1
    gold: bool = True
    most: int = 4
    log: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = Random(self.seed)
        self.truth = [self.rng.randrange(self.classes) for _ in range(100)]
        gold = [GoldSample(sample_id=each, label=self.truth[each]) for each in GOLD] if self.gold else []
        queue = QueueSpec(annotators=2, annotators_max=self.most, agreement=DAWID_SKENE, gold=gold)
        queue.resolution_version = self.version
        spec = RunSpec(label_source=LabelSource.LABEL_SOURCE_QUEUE, queue=queue)
        names = [f"c{each}" for each in range(self.classes)]
        self.log = [
            Event(run_id="r", run_started=RunStarted(spec=spec)),
            Event(run_id="r", pool_published=PoolPublished(sample_count=100, classes=names)),
            Event(run_id="r", labels_requested=LabelsRequested(sample_ids=range(self.sample_count))),
        ]
        self.labeling = fold(self.log)

    def work(self) -> None:
        """Let annotators in turn answer what they are asked, until nothing is asked any more."""
        idle = 0
        while idle < len(self.right):
            name = sorted(self.right)[self.rng.randrange(len(self.right))]
            ask = next(for_annotator(self.labeling, name), None)
            idle = idle + 1 if ask is None else 0
            if ask is None:
                if not any(next(for_annotator(self.labeling, each), None) for each in self.right):
                    return
                idle = 0
                continue
            truth = self.truth[ask.sample_id]
            wrong = (truth + self.rng.randrange(1, self.classes)) % self.classes
            label = truth if self.rng.random() < self.right[name] else wrong
            result = LabelResult(request_id=ask.request_id, annotator=name, label=label)
            event = admit(self.labeling, result, "queue", "results")
            assert event
            self.append(event)
            for each in resolve(self.labeling):
                self.append(each)

    def append(self, event: Event) -> None:
        assert self.labeling.run_log.fault(event) == ""
        self.log.append(event)
        self.labeling.apply(event, NOW)

    @property
    def labels(self) -> dict[int, int]:
        standing = self.labeling.answers.standing
        return {key: each.label for key, each in standing.items() if isinstance(each, LabelProvided)}

    @property
    def right_labels(self) -> int:
        return sum(label == self.truth[sample_id] for sample_id, label in self.labels.items())


def fold(log: list[Event]) -> LabelingState:
    labeling = LabelingState.begin(log[0], NOW)
    for event in log[1:]:
        labeling.apply(event, NOW)
    return labeling


def resolve(labeling: LabelingState) -> list[Event]:
    """Return the events of one resolution that is due, as the oracle's run controller makes them."""
    match next_action(labeling, NOW):
        case Resolve(answered):
            if labeling.resolution_version:
                weighed = posteriors_at(labeling.history, answered, labeling.gold, labeling.annotators, Annotators())
            else:
                wanted = resolution.to_weigh(labeling, answered)
                weighed = posteriors(wanted, labeling.gold) if wanted else {}
            events, disputed = resolution.settle(labeling, resolution.still_newest(labeling, answered), weighed)
            labeling.disputed.update(disputed)
            labeling.mark_resolved(answered)
            return events
    return []


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_gold_samples_show_whom_to_believe(classes: int) -> None:
    right = total = 0
    for seed in range(3):
        crowd = Crowd({"kim": 0.95, "lee": 0.95, "wrong": 0.0, "max": 0.95}, classes, seed)
        crowd.work()
        right, total = right + crowd.right_labels, total + len(crowd.labels)
        assert len(crowd.labels) > 0.8 * crowd.sample_count
    assert right >= 0.93 * total


@pytest.mark.parametrize("gold", [True, False])
def test_two_who_contradict_each_other_settle_nothing(gold: bool) -> None:
    crowd = Crowd({"kim": 0.95, "wrong": 0.0}, seed=1, gold=gold)
    crowd.work()
    differ = [key for key, slots in crowd.labeling.given.items() if len({each.label for each in slots.values()}) > 1]
    assert len(differ) > 40
    assert not set(differ) & set(crowd.labels), "a third is waited for"
    assert all(crowd.labeling.disputed[key] == 3 for key in differ if key not in GOLD)


def test_two_who_contradict_each_other_leave_a_sample_disputed_if_no_more_may_be_asked() -> None:
    crowd = Crowd({"kim": 0.95, "wrong": 0.0}, seed=1, most=2)
    crowd.work()
    assert not crowd.labeling.open
    skipped = [each for each in crowd.labeling.answers.standing.values() if isinstance(each, SampleSkipped)]
    assert len(skipped) > 40
    assert len(crowd.labels) <= 3, "where both made the same error"


@settings(max_examples=examples(15), deadline=None)
@given(seed=st.integers(0, 10_000), cut=st.floats(0, 1), classes=st.integers(2, 4))
def test_every_replica_decides_alike_at_whatever_place_it_starts(seed: int, cut: float, classes: int) -> None:
    crowd = Crowd({"kim": 0.9, "lee": 0.8, "max": 0.9, "errs": 0.2}, classes, seed, sample_count=25)
    crowd.work()
    for labeling in (fold(crowd.log), fold(crowd.log)):
        assert resolve(labeling) == [], "what is decided in the log stands"
        assert {key: each for key, each in labeling.disputed.items() if each and key in labeling.open} == {
            key: each for key, each in crowd.labeling.disputed.items() if each and key in labeling.open
        }
    outcomes = [i for i, event in enumerate(crowd.log) if event.HasField("label_provided")]
    if outcomes:
        place = outcomes[int(cut * (len(outcomes) - 1))]
        restarted = fold(crowd.log[:place])
        assert crowd.log[place] in resolve(restarted), "bit for bit"


def test_a_stale_decision_of_another_replica_is_decided_again() -> None:
    crowd = Crowd({"kim": 1.0, "lee": 1.0, "pat": 1.0}, gold=False, sample_count=2)
    answers = [("kim", 1), ("lee", 1)]
    for name, label in answers:
        event = admit(crowd.labeling, LabelResult(request_id="r/0/0", annotator=name, label=label), "queue", "results")
        assert event
        crowd.append(event)
    [stale] = resolve(crowd.labeling)
    anew = LabelResult(request_id="r/0/0", annotator="lee", label=2, revision=1)
    event = admit(crowd.labeling, anew, "queue", "results")
    assert event
    crowd.append(event)
    assert resolve(crowd.labeling) == [], "they differ now"
    crowd.append(stale)
    [withdrawn] = resolve(crowd.labeling)
    assert withdrawn.HasField("label_withdrawn")
    crowd.append(withdrawn)
    assert 0 in crowd.labeling.open
    assert resolve(crowd.labeling) == []


def test_a_label_given_at_a_deadline_stands_after_a_restart() -> None:
    crowd = Crowd({"kim": 1.0}, gold=False, sample_count=2)
    event = admit(crowd.labeling, LabelResult(request_id="r/0/0", annotator="kim", label=1), "queue", "results")
    assert event
    crowd.append(event)
    for expired in resolution.expire(crowd.labeling, [0], {}):
        crowd.append(expired)
    assert crowd.labels == {0: 1}
    assert resolve(fold(crowd.log)) == []


def test_runs_of_earlier_releases_are_resolved_as_they_were() -> None:
    """Two who differ were settled by the posterior, and outcomes did not say what they took into account."""
    crowd = Crowd({"kim": 0.95, "lee": 0.9, "errs": 0.3}, seed=3, version=0)
    crowd.work()
    provided = [event.label_provided for event in crowd.log if event.HasField("label_provided")]
    assert {each.answers_heard for each in provided} == {0}
    assert any(each.answer_count == 2 and each.agreement < 1 for each in provided)
    assert decide(votes(1, 2), wanted=2, most=3, posterior={1: 0.1, 2: 0.9}) == Label(2, 2, 0.9)


@pytest.mark.parametrize(
    ("said", "posterior", "outcome"),
    [
        ((1, 2), {1: 0.0, 2: 1.0}, Undecided(1)),
        ((1, 1), None, Label(1, 2, 1.0)),
        ((1, 1), {1: 0.9, 2: 0.1}, Label(1, 2, 0.9)),
        ((1, 1), {1: 0.1, 2: 0.9}, Undecided(1)),
        ((1, 1, 2), {1: 0.1, 2: 0.9}, Label(2, 3, 0.9)),
        ((1, 1, 0), {0: 0.1, 1: 0.0, 2: 0.9}, Undecided(1)),
        ((1, 1, 0, 0), {0: 0.6, 1: 0.4}, DISPUTED),
        ((SKIPPED, SKIPPED, 1), {1: 1.0}, SKIPPED),
        ((1, 1, 2), None, Label(1, 3, 2 / 3)),
    ],
)
def test_rules_of_version_1(
    said: tuple[int | Skip, ...], posterior: dict[int, float] | None, outcome: Label | Skip | Undecided
) -> None:
    assert decide(votes(*said), wanted=2, most=4, posterior=posterior, version=1) == outcome


def test_unanimous_votes_of_those_whom_gold_shows_to_be_wrong_are_doubted() -> None:
    said = {i: [Vote("bad", (i + 1) % 2), Vote("worse", (i + 1) % 2), Vote("kim", i % 2)] for i in range(40)}
    truth = {i: i % 2 for i in range(8)}
    found = posteriors({**said, 50: said[21][:2]}, truth, led=True)
    assert found[50][1] > 0.9
    assert decide(said[21][:2], wanted=2, most=3, posterior=found[50], version=1) == Undecided(1)
