"""What holds for a sample by what its annotators said: the event that says so. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from labelloop.events.v1.events_pb2 import (
    AnswerGiven,
    Event,
    LabelProvided,
    LabelWithdrawn,
    SampleSkipped,
    SkipKind,
)

from oracle_svc.agreement import Label, Outcome, Skip, Undecided, Vote, decide, posteriors
from oracle_svc.desk import Desk

AGREEMENT_SOURCE, DEADLINE_SOURCE = "agreement", "deadline"
_FINAL = {SkipKind.SKIP_KIND_EXPIRED, SkipKind.SKIP_KIND_CANCELLED}


def settle(desk: Desk, sample_ids: Iterable[int]) -> list[Event]:
    """What makes hold what the answers for these samples come to by the run's rule; nothing for those that hold it
    already. Notes how many annotators more are asked for which sample."""
    events = []
    for sample_id in sample_ids:
        outcome = _decide(desk, sample_id, wanted=desk.annotators, most=desk.annotators_max)
        desk.more[sample_id] = outcome.more if isinstance(outcome, Undecided) else 0
        if event := _change(desk, sample_id, outcome):
            events.append(event)
    return events


def expire(desk: Desk, sample_ids: Iterable[int]) -> list[Event]:
    """What ends the wait for these samples: a label of what was answered, or none where nothing was."""
    events = []
    for sample_id in sample_ids:
        answered = len(desk.standing_answers(sample_id))
        outcome: Outcome = Skip(SkipKind.SKIP_KIND_EXPIRED)
        if answered:
            outcome = _decide(desk, sample_id, wanted=answered, most=answered)
        if event := _change(desk, sample_id, outcome):
            events.append(event)
    return events


def _decide(desk: Desk, sample_id: int, *, wanted: int, most: int) -> Outcome:
    votes, rule = _votes(desk.standing_answers(sample_id)), desk.spec.queue.agreement
    return decide(votes, wanted=wanted, most=most, rule=rule, weigh=lambda: _weights(desk).get(sample_id, {}))


def _votes(answers: Sequence[AnswerGiven]) -> list[Vote]:
    return [Vote(answer.annotator, _outcome(answer)) for answer in answers]


def _outcome(answer: AnswerGiven) -> int | Skip:
    return answer.label if answer.HasField("label") else Skip(answer.skip)


def _weights(desk: Desk) -> Mapping[int, Mapping[int, float]]:
    assert desk.pool is not None, "a run with answers has a pool"
    votes = {sample_id: _votes(desk.standing_answers(sample_id)) for sample_id in desk.given}
    return posteriors(votes, len(desk.pool.classes))


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
