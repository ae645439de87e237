"""Summarise a run's backlog and its annotators' quality. No I/O."""

from __future__ import annotations

from collections.abc import Iterator

from labelloop.domain.sample_outcomes import outcome_of
from labelloop.events.v1.events_pb2 import Event, LabelProvided, SampleSkipped
from labelloop.oracle.v1.oracle_pb2 import AnnotatorRecord, Backlog

from oracle_svc.domain.annotator_quality import AnnotatorQuality, Judgement, records
from oracle_svc.domain.consensus import Skip
from oracle_svc.domain.labeling_state import LabelingState


def is_answer(event: Event) -> bool:
    """Return whether ``event`` is an annotator's result or changes a sample's outcome, whatever its source."""
    return outcome_of(event) is not None or event.HasField("answer_given")


def backlog_of(labeling: LabelingState, leased: int) -> Backlog:
    """Build a run's backlog; ``leased`` is the number of its open samples that are leased."""
    standing = labeling.answers.standing.values()
    backlog = Backlog(
        run_id=labeling.run_id,
        tool=labeling.spec.queue.tool,
        problem="" if labeling.over else labeling.refusal,
        open=len(labeling.open),
        leased=leased,
        disputed=sum(bool(labeling.disputed.get(sample_id)) for sample_id in labeling.open),
        labelled=sum(isinstance(outcome, LabelProvided) for outcome in standing),
        skipped=sum(isinstance(outcome, SampleSkipped) for outcome in standing),
        annotators=[_record(each) for each in records(_judgements(labeling))],
        notices=[] if labeling.over else labeling.notices,
    )
    if labeling.waits_since:
        backlog.waits_since.FromDatetime(labeling.waits_since)
    return backlog


def _judgements(labeling: LabelingState) -> Iterator[Judgement]:
    """Yield each annotator's current result for every sample."""
    labels = {key: each.label for key, each in labeling.answers.standing.items() if isinstance(each, LabelProvided)}
    for sample_id in labeling.given:
        for given in labeling.standing_answers(sample_id):
            outcome = given.label if given.HasField("label") else Skip(given.skip)
            gold, label = labeling.gold.get(sample_id), labels.get(sample_id)
            yield Judgement(given.annotator, outcome, given.time_spent_s, gold, label)
    if labeling.annotators > 1 or not labeling.for_people:
        return
    for standing in labeling.answers.standing.values():  # a single annotator's result is the label: nothing to compare
        if isinstance(standing, LabelProvided):
            yield Judgement(standing.annotator, standing.label, standing.time_spent_s)
        elif isinstance(standing, SampleSkipped) and standing.annotator:
            yield Judgement(standing.annotator, Skip(standing.kind), 0.0)


def _record(quality: AnnotatorQuality) -> AnnotatorRecord:
    return AnnotatorRecord(
        annotator=quality.annotator,
        answers=quality.answers,
        skips=quality.skips,
        compared=quality.compared,
        agreed=quality.agreed,
        gold=quality.gold,
        gold_right=quality.gold_right,
        gold_low=quality.gold_low,
        gold_high=quality.gold_high,
        time_spent_s=quality.time_spent_s,
    )
