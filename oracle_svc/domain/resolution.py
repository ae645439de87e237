"""Derive the events that set a sample's outcome from its annotation results. Pure functions."""

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

from oracle_svc.domain.answer_history import votes_of
from oracle_svc.domain.consensus import Label, Outcome, Skip, Undecided, Vote, decide, disputed
from oracle_svc.domain.labeling_state import LabelingState, ResultKey

AGREEMENT_SOURCE, DEADLINE_SOURCE, REMOVAL_SOURCE = "agreement", "deadline", "removal"
_FINAL = {SkipKind.SKIP_KIND_EXPIRED, SkipKind.SKIP_KIND_CANCELLED}


Posteriors = Mapping[int, Mapping[int, float]]


def to_weigh(labeling: LabelingState, sample_ids: Iterable[int]) -> dict[int, list[Vote]]:
    """Return the votes from which to estimate how reliable each annotator is, by sample, in a run of version 0.

    Returns the votes of the whole run if its agreement rule weights annotators and the votes for one of ``sample_ids``
    differ, else none.
    """
    if not weighs(labeling) or not any(disputed(_votes(labeling, sample_id)) for sample_id in sample_ids):
        return {}
    return {sample_id: _votes(labeling, sample_id) for sample_id in labeling.given}


def weighs(labeling: LabelingState) -> bool:
    """Return whether the agreement rule of a run weights annotators."""
    return labeling.spec.queue.agreement == AgreementRule.AGREEMENT_RULE_DAWID_SKENE


def still_newest(labeling: LabelingState, answered: Mapping[int, int]) -> list[int]:
    """Return the samples that have no newer result than ``answered`` says: these others are to be resolved again."""
    return [
        sample_id
        for sample_id, number in answered.items()
        if not labeling.resolution_version or labeling.newest_answer(sample_id) == number
    ]


def settle(
    labeling: LabelingState, sample_ids: Iterable[int], posteriors: Posteriors
) -> tuple[list[Event], dict[int, int]]:
    """Return the events that give these samples the outcome of the run's agreement rule, if it is not current yet.

    Also returns how many annotators are asked in all, by sample: the news for ``labeling.disputed``.

    Args:
        posteriors: Class probabilities by sample; a sample without an entry is decided by majority.
    """
    events, disputed = [], {}
    limits = {"wanted": labeling.annotators, "most": labeling.annotators_max, "version": labeling.resolution_version}
    for sample_id in sample_ids:
        votes = _votes(labeling, sample_id)
        outcome = decide(votes, **limits, posterior=posteriors.get(sample_id))
        asked = len(votes) + outcome.more if isinstance(outcome, Undecided) else 0
        disputed[sample_id] = asked if asked > labeling.annotators else 0
        if event := _change(labeling, sample_id, outcome):
            events.append(event)
    return events, disputed


def expire(labeling: LabelingState, sample_ids: Iterable[int], posteriors: Posteriors) -> list[Event]:
    """Return the events that end the wait for these samples.

    Each is decided by the run's agreement rule, although fewer annotators have responded than were asked, or is skipped
    as expired if none has.

    Args:
        posteriors: Class probabilities by sample; a sample without an entry is decided by majority.
    """
    events = []
    for sample_id in sample_ids:
        votes = _votes(labeling, sample_id)
        expired = Skip(SkipKind.SKIP_KIND_EXPIRED)
        limits = {"wanted": len(votes), "most": len(votes), "version": labeling.resolution_version}
        outcome = decide(votes, **limits, posterior=posteriors.get(sample_id)) if votes else expired
        if event := _change(labeling, sample_id, outcome):
            events.append(event)
    return events


def withdrawals(labeling: LabelingState, results: Mapping[ResultKey, str]) -> list[Event]:
    """Return the events that withdraw these results; ``results`` says by whose word."""
    return [_withdrawal(labeling, sample_id, slot, by) for (sample_id, slot), by in results.items()]


def _withdrawal(labeling: LabelingState, sample_id: int, slot: int | None, by: str) -> Event:
    if slot is None:
        number = labeling.answers.standing[sample_id].answer_revision + 1
        withdrawn = LabelWithdrawn(sample_id=sample_id, source=REMOVAL_SOURCE, annotator=by, answer_revision=number)
        return _event(labeling, withdrawn)
    given = labeling.given[sample_id][slot]
    answer = AnswerGiven(sample_id=sample_id, slot=slot, revision=given.revision + 1, withdrawn=True)
    answer.source, answer.annotator = REMOVAL_SOURCE, given.annotator
    answer.comment = f"{given.annotator} was removed by {by}" if by else f"{given.annotator} was removed"
    return Event(run_id=labeling.run_id, round=labeling.answers.rounds.get(sample_id, 0), answer_given=answer)


def _votes(labeling: LabelingState, sample_id: int) -> list[Vote]:
    return votes_of(labeling.standing_answers(sample_id), labeling.run_log.annotators)


def _change(labeling: LabelingState, sample_id: int, outcome: Outcome) -> Event | None:
    """Return the event that sets ``outcome``; None if it is current, or if the request expired or was cancelled."""
    standing = labeling.answers.standing.get(sample_id)
    if isinstance(standing, SampleSkipped) and standing.kind in _FINAL:
        return None
    match outcome:
        case Label(label, answer_count, agreement):
            if isinstance(standing, LabelProvided) and standing.label == label:
                return None
            provided = LabelProvided(sample_id=sample_id, label=label, source=AGREEMENT_SOURCE)
            provided.answer_count, provided.agreement = answer_count, agreement
            return _event(labeling, provided)
        case Skip(kind):
            if isinstance(standing, SampleSkipped):
                return None
            source = DEADLINE_SOURCE if kind == SkipKind.SKIP_KIND_EXPIRED else AGREEMENT_SOURCE
            return skipped(labeling, sample_id, kind, source)
        case Undecided():
            if standing is None or isinstance(standing, LabelWithdrawn):
                return None
            return _event(labeling, LabelWithdrawn(sample_id=sample_id, source=AGREEMENT_SOURCE))


def skipped(
    labeling: LabelingState,
    sample_id: int,
    kind: SkipKind.ValueType,
    source: str,
    *,
    annotator: str = "",
    comment: str = "",
) -> Event:
    """Build the event that skips a requested sample."""
    return _event(
        labeling, SampleSkipped(sample_id=sample_id, kind=kind, source=source, annotator=annotator, comment=comment)
    )


def _event(labeling: LabelingState, outcome: LabelProvided | SampleSkipped | LabelWithdrawn) -> Event:
    """Wrap a sample's next outcome in an event, and number it with the sample's next revision."""
    outcome.revision = labeling.answers.next_revision(outcome.sample_id)
    if labeling.resolution_version:
        outcome.answers_heard = labeling.newest_answer(outcome.sample_id)
    event = Event(run_id=labeling.run_id, round=labeling.answers.rounds[outcome.sample_id])
    match outcome:
        case LabelProvided():
            event.label_provided.CopyFrom(outcome)
        case SampleSkipped():
            event.sample_skipped.CopyFrom(outcome)
        case LabelWithdrawn():
            event.label_withdrawn.CopyFrom(outcome)
    return event
