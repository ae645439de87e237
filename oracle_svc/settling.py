"""What holds for a sample by what its annotators said: the event that says so. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from labelloop.events.v1.events_pb2 import (
    AgreementRule,
    AnswerGiven,
    Event,
    LabelProvided,
    LabelWithdrawn,
    SampleSkipped,
    SkipKind,
)

from oracle_svc.agreement import Label, Outcome, Skip, Undecided, Vote, decide, disputed
from oracle_svc.desk import Desk

AGREEMENT_SOURCE, DEADLINE_SOURCE = "agreement", "deadline"
_FINAL = {SkipKind.SKIP_KIND_EXPIRED, SkipKind.SKIP_KIND_CANCELLED}


Posteriors = Mapping[int, Mapping[int, float]]


def to_weigh(desk: Desk, sample_ids: Iterable[int]) -> dict[int, list[Vote]]:
    """The answers of the whole run, where the rule weighs them and some of these samples' answers differ; else none."""
    weighs = desk.spec.queue.agreement == AgreementRule.AGREEMENT_RULE_DAWID_SKENE
    if not weighs or not any(disputed(_votes(desk, sample_id)) for sample_id in sample_ids):
        return {}
    return {sample_id: _votes(desk, sample_id) for sample_id in desk.given}


def settle(desk: Desk, sample_ids: Iterable[int], posteriors: Posteriors) -> list[Event]:
    """What makes hold what the answers for these samples come to by the run's rule; nothing for those that hold it
    already. Notes of which samples more annotators are asked than of others."""
    events = []
    for sample_id in sample_ids:
        limits = {"wanted": desk.annotators, "most": desk.annotators_max}
        votes = _votes(desk, sample_id)
        outcome = decide(votes, **limits, posterior=posteriors.get(sample_id))
        asked = len(votes) + outcome.more if isinstance(outcome, Undecided) else 0
        desk.disputed[sample_id] = asked if asked > desk.annotators else 0
        if event := _change(desk, sample_id, outcome):
            events.append(event)
    return events


def expire(desk: Desk, sample_ids: Iterable[int], posteriors: Posteriors) -> list[Event]:
    """What ends the wait for these samples: what their answers come to by the run's rule, though fewer were given than
    asked for, or no label where none was."""
    events = []
    for sample_id in sample_ids:
        votes = _votes(desk, sample_id)
        expired = Skip(SkipKind.SKIP_KIND_EXPIRED)
        limits = {"wanted": len(votes), "most": len(votes)}
        outcome = decide(votes, **limits, posterior=posteriors.get(sample_id)) if votes else expired
        if event := _change(desk, sample_id, outcome):
            events.append(event)
    return events


def _votes(desk: Desk, sample_id: int) -> list[Vote]:
    return [Vote(answer.annotator, _outcome(answer)) for answer in desk.standing_answers(sample_id)]


def _outcome(answer: AnswerGiven) -> int | Skip:
    return answer.label if answer.HasField("label") else Skip(answer.skip)


def _change(desk: Desk, sample_id: int, outcome: Outcome) -> Event | None:
    """The event that makes ``outcome`` hold; None where it does already, or the request was taken back."""
    standing = desk.answers.standing.get(sample_id)
    if isinstance(standing, SampleSkipped) and standing.kind in _FINAL:
        return None
    match outcome:
        case Label(label, answer_count, agreement):
            if isinstance(standing, LabelProvided) and standing.label == label:
                return None
            provided = LabelProvided(sample_id=sample_id, label=label, source=AGREEMENT_SOURCE)
            provided.answer_count, provided.agreement = answer_count, agreement
            return _event(desk, provided)
        case Skip(kind):
            if isinstance(standing, SampleSkipped):
                return None
            source = DEADLINE_SOURCE if kind == SkipKind.SKIP_KIND_EXPIRED else AGREEMENT_SOURCE
            return skipped(desk, sample_id, kind, source)
        case Undecided():
            if standing is None or isinstance(standing, LabelWithdrawn):
                return None
            return _event(desk, LabelWithdrawn(sample_id=sample_id, source=AGREEMENT_SOURCE))


def skipped(
    desk: Desk, sample_id: int, kind: SkipKind.ValueType, source: str, *, annotator: str = "", comment: str = ""
) -> Event:
    return _event(
        desk, SampleSkipped(sample_id=sample_id, kind=kind, source=source, annotator=annotator, comment=comment)
    )


def _event(desk: Desk, outcome: LabelProvided | SampleSkipped | LabelWithdrawn) -> Event:
    """What is to hold for a sample next."""
    outcome.revision = desk.answers.next_revision(outcome.sample_id)
    event = Event(run_id=desk.run_id, round=desk.answers.rounds[outcome.sample_id])
    match outcome:
        case LabelProvided():
            event.label_provided.CopyFrom(outcome)
        case SampleSkipped():
            event.sample_skipped.CopyFrom(outcome)
        case LabelWithdrawn():
            event.label_withdrawn.CopyFrom(outcome)
    return event
