"""Summarise a run's backlog and its annotators' quality. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from labelloop.domain.hold_ups import HoldUp, merged, message_of
from labelloop.domain.run_stage import stage_of
from labelloop.domain.sample_outcomes import outcome_of
from labelloop.events.v1.events_pb2 import Event, LabelProvided, SampleSkipped
from labelloop.oracle.v1.oracle_pb2 import AnnotatorRecord, Backlog

from oracle_svc.domain.agreement import agreement_of
from oracle_svc.domain.annotator_quality import AnnotatorQuality, Judgement, records
from oracle_svc.domain.consensus import Skip
from oracle_svc.domain.labeling_state import LabelingState
from oracle_svc.domain.late_answers import contradicting
from oracle_svc.domain.tool_states import SERVICE


def is_answer(event: Event) -> bool:
    """Return whether ``event`` is an annotator's result or changes a sample's outcome, whatever its source."""
    return outcome_of(event) is not None or event.HasField("answer_given")


def faults_of_tool(labeling: LabelingState) -> list[HoldUp]:
    """Return why somebody has to see to a run's tool: it rejects requests, is set up wrongly, or lost many results.

    May be called from another thread.
    """
    if labeling.over:
        return []
    tool, run_id = labeling.spec.queue.tool, labeling.run_id
    found: list[tuple[str, float]] = []
    if labeling.refusal:
        found.append((f"{tool} does not take its requests: {labeling.refusal}", labeling.refused_since))
    found += [(f"{tool}: {notice}", labeling.noticed_since) for notice in labeling.notices]
    if labeling.held:
        problem = (
            f"{len(labeling.held)} results of {run_id} are no longer in {tool} and still count: "
            f"`labelloop label accept-withdrawals {run_id}` shows them and asks whether to withdraw them"
        )
        found.append((problem, labeling.held_since))
    return [HoldUp(SERVICE, problem, since, run_id) for problem, since in found]


def held_up_by(labeling: LabelingState, found: Iterable[HoldUp]) -> list[HoldUp]:
    """Return a run's hold-ups: those ``found``, without tools if no request is open, and its own tool's faults."""
    if labeling.over:
        return []
    own = [each for each in found if labeling.open or not each.tool]
    return merged([*own, *faults_of_tool(labeling)])


def backlog_of(labeling: LabelingState, leased: int, held_up: Iterable[HoldUp] = ()) -> Backlog:
    """Build a run's backlog.

    Args:
        leased: The number of its open samples that are leased.
        held_up: What holds it up now.
    """
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
        contradicted=sum(bool(contradicting(labeling, sample_id)) for sample_id in labeling.late),
        annotators=_records(labeling),
        held_up=map(message_of, held_up),
        progress=stage_of(labeling.run_log),
        notices=[] if labeling.over else labeling.notices,
    )
    agreement = agreement_of(_classes(labeling))
    backlog.shared_samples = agreement.shared
    if agreement.pairs is not None:
        backlog.pair_agreement = agreement.pairs
    if agreement.alpha is not None:
        backlog.alpha = agreement.alpha
    if labeling.waits_since:
        backlog.waits_since.FromDatetime(labeling.waits_since)
    return backlog


def _classes(labeling: LabelingState) -> Iterator[list[int]]:
    """Yield the classes that annotators were asked for and gave to each sample."""
    for sample_id in labeling.given:
        yield [each.label for each in labeling.standing_answers(sample_id) if each.HasField("label")]


def _judgements(labeling: LabelingState) -> Iterator[Judgement]:
    """Yield each annotator's current result for every sample."""
    labels = {key: each.label for key, each in labeling.answers.standing.items() if isinstance(each, LabelProvided)}
    for sample_id in labeling.given:
        for given in labeling.standing_answers(sample_id):
            outcome = given.label if given.HasField("label") else Skip(given.skip)
            gold, label = labeling.gold.get(sample_id), labels.get(sample_id)
            yield Judgement(labeling.identity_of(given.annotator), outcome, given.time_spent_s, gold, label)
    if labeling.annotators > 1 or not labeling.for_people:
        return
    for standing in labeling.answers.standing.values():  # a single annotator's result is the label: nothing to compare
        if isinstance(standing, LabelProvided):
            yield Judgement(labeling.identity_of(standing.annotator), standing.label, standing.time_spent_s)
        elif isinstance(standing, SampleSkipped) and standing.annotator:
            yield Judgement(labeling.identity_of(standing.annotator), Skip(standing.kind), 0.0)


def _records(labeling: LabelingState) -> list[AnnotatorRecord]:
    """Return a record, by name, of each person who answered or contradicted, has several names or was removed."""
    found = {each.annotator: _record(each) for each in records(_judgements(labeling))}
    late = {
        (labeling.identity_of(each.annotator), sample_id)
        for sample_id in labeling.late
        for each in contradicting(labeling, sample_id)
    }
    for name, _ in late:
        found.setdefault(name, AnnotatorRecord(annotator=name)).contradicting += 1
    people = labeling.run_log.annotators
    for name in people.declared:
        record = found.setdefault(name, AnnotatorRecord(annotator=name))
        record.aliases.extend(sorted(people.names_of(name) - {name}))
        record.removed = name in people.removed
    return [found[name] for name in sorted(found)]


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
