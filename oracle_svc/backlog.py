"""What waits for people, and how they did. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from labelloop.events.v1.events_pb2 import Event, LabelProvided, SampleSkipped
from labelloop.oracle.v1.oracle_pb2 import AnnotatorRecord, Backlog
from labelloop.wire.answers import outcome_of

from oracle_svc.agreement import Skip
from oracle_svc.desk import Desk
from oracle_svc.quality import AnnotatorQuality, Judgement, records


def is_answer(event: Event) -> bool:
    """Whether it is what people, or a dataset, said."""
    return outcome_of(event) is not None or event.HasField("answer_given")


def backlog_of(desk: Desk, leased: int) -> Backlog:
    """``leased`` counts open samples that somebody holds."""
    standing = desk.answers.standing.values()
    backlog = Backlog(
        run_id=desk.run_id,
        tool=desk.spec.queue.tool,
        problem="" if desk.over else desk.refusal,
        open=len(desk.open),
        leased=leased,
        disputed=sum(bool(desk.disputed.get(sample_id)) for sample_id in desk.open),
        labelled=sum(isinstance(outcome, LabelProvided) for outcome in standing),
        skipped=sum(isinstance(outcome, SampleSkipped) for outcome in standing),
        annotators=[_record(each) for each in records(_judgements(desk))],
    )
    if desk.waits_since:
        backlog.waits_since.FromDatetime(desk.waits_since)
    return backlog


def _judgements(desk: Desk) -> Iterator[Judgement]:
    """What each annotator says now, of every sample."""
    labels = {key: each.label for key, each in desk.answers.standing.items() if isinstance(each, LabelProvided)}
    for sample_id in desk.given:
        for given in desk.standing_answers(sample_id):
            outcome = given.label if given.HasField("label") else Skip(given.skip)
            gold, label = desk.gold.get(sample_id), labels.get(sample_id)
            yield Judgement(given.annotator, outcome, given.time_spent_s, gold, label)
    if desk.annotators > 1 or not desk.for_people:
        return
    for standing in desk.answers.standing.values():  # the only one's word is the label: nothing to compare
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
