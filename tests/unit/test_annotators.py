"""Annotators as people with several names, and their removal from a run."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labelloop.domain.annotators import Annotators
from labelloop.domain.event_schema import shape_fault
from labelloop.errors import InvalidInput, WrongState
from labelloop.events.v1.events_pb2 import (
    AgreementRule,
    AnnotatorAlias,
    AnnotatorRemoval,
    AnnotatorsChanged,
    AnswerGiven,
    Event,
    GoldSample,
    RunFinished,
    SkipKind,
)
from labelloop.oracle.v1.oracle_pb2 import ChangeAnnotatorsRequest

from oracle_svc.domain import resolution
from oracle_svc.domain.annotator_changes import annotators_change, answer_count
from oracle_svc.domain.backlog import backlog_of
from oracle_svc.domain.consensus import Vote
from oracle_svc.domain.labeling_state import LabelingState, Resolve, Withdraw, next_action
from oracle_svc.domain.open_requests import for_annotator
from tests.unit.test_labeling_state import NOW, begun, label_of, samples, say, settle

DAWID_SKENE = AgreementRule.AGREEMENT_RULE_DAWID_SKENE


def change(labeling: LabelingState, **changed: Any) -> Event | None:
    """Make a change as the service does, and carry out what follows from it."""
    event = annotators_change(labeling, ChangeAnnotatorsRequest(run_id="r", changed_by="boss", **changed))
    if event:
        labeling.apply(event, NOW)
    while isinstance(action := next_action(labeling, NOW), Withdraw):
        for withdrawal in resolution.withdrawals(labeling, action.results):
            labeling.apply(withdrawal, NOW)
    settle(labeling)
    return event


def alias(labeling: LabelingState, name: str, same_as: str) -> Event | None:
    return change(labeling, alias=AnnotatorAlias(name=name, same_as=same_as))


def remove(labeling: LabelingState, name: str, *, withdraw: bool = False) -> Event | None:
    return change(labeling, removal=AnnotatorRemoval(name=name, withdraw=withdraw))


def people(labeling: LabelingState) -> dict[str, tuple[int, list[str], bool]]:
    """Return answers, aliases and whether they were removed, by annotator."""
    found = backlog_of(labeling, 0).annotators
    return {each.annotator: (each.answers, list(each.aliases), each.removed) for each in found}


def test_two_names_of_one_person_fill_one_slot_and_have_one_vote() -> None:
    labeling = begun(3, annotators=2)
    assert alias(labeling, "kim@example.org", "kim")
    say(labeling, 3, "kim", label=1)
    assert say(labeling, 3, "kim@example.org", label=1) is None
    assert label_of(labeling, 3) is None, "one person"
    assert samples(list(for_annotator(labeling, "kim@example.org"))) == []
    assert samples(list(for_annotator(labeling, "lee"))) == [(3, 1)]
    say(labeling, 3, "lee", label=1)
    standing = labeling.answers.standing[3]
    assert (standing.answer_count, standing.agreement) == (2, 1.0)  # type: ignore[union-attr]
    assert people(labeling) == {"kim": (1, ["kim@example.org"], False), "lee": (1, [], False)}


def test_an_alias_declared_afterwards_takes_back_a_label_that_one_person_agreed_on_alone() -> None:
    labeling = begun(3, 5, annotators=2)
    say(labeling, 3, "kim", label=1)
    say(labeling, 3, "kim@example.org", label=1)
    assert label_of(labeling, 3) == 1
    alias(labeling, "kim@example.org", "kim")
    assert label_of(labeling, 3) == "LabelWithdrawn"
    assert (3, 2) in samples(list(for_annotator(labeling, "lee"))), "somebody else is asked"
    say(labeling, 3, "lee", label=1)
    assert labeling.answers.standing[3].answer_count == 2  # type: ignore[union-attr]


def test_a_name_can_be_made_a_person_of_its_own_again() -> None:
    labeling = begun(3, 5, annotators=2)
    alias(labeling, "lee", "kim")
    say(labeling, 3, "kim", label=1)
    assert say(labeling, 3, "lee", label=1) is None
    assert alias(labeling, "lee", "lee")
    assert say(labeling, 3, "lee", label=1)
    assert label_of(labeling, 3) == 1
    assert alias(labeling, "lee", "lee") is None


def test_names_are_recorded_in_nfc_without_spaces_around_them() -> None:
    labeling = begun(3, 5, annotators=2)
    event = say(labeling, 3, "  Zoe\u0308 ", label=1)
    assert event
    assert event.answer_given.annotator == "Zo\u00eb"
    assert say(labeling, 3, "Zo\u00eb", label=1) is None
    with pytest.raises(InvalidInput, match="say which of them answers"):
        say(labeling, 3, "   ", label=1)


def test_a_name_that_an_earlier_release_recorded_stays_that_persons() -> None:
    labeling = begun(3, 5, annotators=2)
    old = AnswerGiven(sample_id=3, label=1, annotator=" kim")
    labeling.apply(Event(run_id="r", answer_given=old), NOW)
    assert say(labeling, 3, " kim", label=1) is None, "recorded already"
    assert say(labeling, 5, " kim", label=1), "one of their names"
    assert alias(labeling, " kim", "kim")
    assert people(labeling)["kim"] == (2, [" kim"], False)


def test_who_was_removed_is_asked_nothing_and_their_results_are_refused() -> None:
    labeling = begun(3, 5, annotators=2)
    alias(labeling, "kim@example.org", "kim")
    said = say(labeling, 3, "kim", label=1)
    remove(labeling, "kim@example.org")
    for name in ("kim", "kim@example.org", " kim "):
        with pytest.raises(WrongState, match="removed from run 'r' by boss") as refused:
            say(labeling, 5, name, label=1)
        assert refused.value.reason == "ANNOTATOR_REMOVED"
    assert said
    assert say(labeling, 3, "kim", label=1) is None, "delivered again: it is recorded already"
    say(labeling, 3, "lee", label=1)
    assert label_of(labeling, 3) == 1, "what they said holds"
    assert people(labeling)["kim"] == (1, ["kim@example.org"], True)
    assert change(labeling, restored="kim")
    assert say(labeling, 5, "kim", label=1)


@pytest.mark.parametrize("annotators", [1, 2])
def test_removal_withdraws_if_asked_what_holds(annotators: int) -> None:
    labeling = begun(3, 5, annotators=annotators, gold=[GoldSample(sample_id=9, label=0)])
    say(labeling, 3, "kim", label=1)
    if annotators == 2:
        say(labeling, 3, "lee", label=1)
    say(labeling, 9, "kim", label=0)
    assert label_of(labeling, 3) == 1
    remove(labeling, "kim", withdraw=True)
    assert label_of(labeling, 3) == "LabelWithdrawn"
    assert 3 in labeling.open, "asked again"
    assert answer_count(labeling, "kim") == 0
    assert people(labeling)["kim"] == (0, [], True)
    say(labeling, 3, "ann", label=2)
    assert change(labeling, restored="kim")
    assert answer_count(labeling, "kim") == 0, "what was withdrawn does not come back by itself"


def test_a_result_that_reaches_the_log_behind_a_withdrawing_removal_is_withdrawn_too() -> None:
    labeling = begun(3, 5, annotators=2)
    remove(labeling, "kim", withdraw=True)
    late = AnswerGiven(sample_id=3, label=1, annotator="kim")
    labeling.apply(Event(run_id="r", answer_given=late), NOW)
    assert next_action(labeling, NOW) == Withdraw({(3, 0): "boss"})


def test_a_removal_that_came_first_without_withdrawing_can_withdraw_later() -> None:
    labeling = begun(3, 5)
    say(labeling, 3, "kim", label=1)
    assert remove(labeling, "kim")
    assert remove(labeling, "kim") is None
    assert label_of(labeling, 3) == 1
    assert remove(labeling, "kim", withdraw=True)
    assert label_of(labeling, 3) == "LabelWithdrawn"
    assert remove(labeling, "kim") is None, "it is not weaker again"


def test_skips_are_withdrawn_and_cancelled_requests_stay_cancelled() -> None:
    labeling = begun(3, 5, 7)
    say(labeling, 3, "kim", skip=SkipKind.SKIP_KIND_SKIPPED)
    labeling.apply(resolution.skipped(labeling, 5, SkipKind.SKIP_KIND_CANCELLED, "queue", annotator="kim"), NOW)
    remove(labeling, "kim", withdraw=True)
    assert (label_of(labeling, 3), label_of(labeling, 5)) == ("LabelWithdrawn", "SampleSkipped")


def test_an_alias_of_somebody_who_was_removed_is_refused() -> None:
    labeling = begun(3)
    remove(labeling, "kim")
    for name, same_as in (("kim", "lee"), ("lee", "kim")):
        with pytest.raises(WrongState, match="removed"):
            alias(labeling, name, same_as)
    changed = AnnotatorsChanged(number=1, alias=AnnotatorAlias(name="kim", same_as="lee"))
    assert labeling.run_log.fault(Event(annotators_changed=changed))


def test_changes_of_a_run_that_has_ended_are_refused() -> None:
    labeling = begun(3)
    labeling.apply(Event(run_id="r", run_finished=RunFinished()), NOW)
    with pytest.raises(WrongState, match="has ended"):
        remove(labeling, "kim")


def test_changes_that_name_nobody_are_refused() -> None:
    labeling = begun(3)
    for changed in ({}, {"restored": " "}, {"restored": "x" * 201}, {"restored": "a\u202eb"}):
        with pytest.raises(InvalidInput):
            change(labeling, **changed)
    for event in (AnnotatorsChanged(), AnnotatorsChanged(restored=""), AnnotatorsChanged(restored="x" * 201)):
        assert shape_fault(Event(annotators_changed=event))


def test_changes_are_numbered() -> None:
    labeling = begun(3)
    changed = AnnotatorsChanged(number=1, restored="kim")
    assert labeling.run_log.fault(Event(annotators_changed=changed)) == "the next change of its annotators is number 0"


NAMES = st.sampled_from("abcdef")
ANSWERS = st.lists(
    st.tuples(st.integers(0, 2), NAMES, st.integers(0, 2), st.integers(0, 2), st.sampled_from([0, 1, 2, None])),
    max_size=30,
)
ALIASES = st.lists(st.tuples(NAMES, NAMES).filter(lambda pair: pair[0] != pair[1]), max_size=4)


def answer_events(answers: list[tuple[int, str, int, int, int | None]]) -> list[Event]:
    """Return the log of answers: sample, annotator, slot of theirs, revision, and class or None for a withdrawal."""
    slots: dict[tuple[int, str], int] = {}
    events = []
    for sample_id, name, _, revision, label in answers:
        slot = slots.setdefault((sample_id, name), sum(key[0] == sample_id for key in slots))
        given_ = AnswerGiven(sample_id=sample_id, slot=slot, revision=revision, annotator=name)
        if label is None:
            given_.withdrawn = True
        else:
            given_.label = label
        events.append(Event(run_id="r", answer_given=given_))
    return events


def outcomes(events: list[Event], rule: AgreementRule.ValueType) -> tuple[list[list[Vote]], list[str]]:
    """Return votes by sample, and outcomes, after a log."""
    labeling = begun(0, 1, 2, annotators=2, annotators_max=4, agreement=rule)
    for event in events:
        assert not labeling.run_log.fault(event)
        labeling.apply(event, NOW)
    action = next_action(labeling, NOW)
    if isinstance(action, Resolve):
        decided, _ = resolution.settle(labeling, action.answered, {})
        for event in decided:
            labeling.apply(event, NOW)
    votes = [sorted(resolution._votes(labeling, each), key=lambda vote: vote.annotator) for each in range(3)]
    return votes, [str(label_of(labeling, each)) for each in range(3)]


@settings(max_examples=200, deadline=None)
@given(ANSWERS, ALIASES, st.integers(0, 30), st.sampled_from([AgreementRule.AGREEMENT_RULE_MAJORITY, DAWID_SKENE]))
def test_an_alias_decides_the_same_declared_before_or_after_answers(
    answers: list[tuple[int, str, int, int, int | None]],
    aliases: list[tuple[str, str]],
    place: int,
    rule: AgreementRule.ValueType,
) -> None:
    said = answer_events(answers)
    declared = [
        Event(
            run_id="r",
            annotators_changed=AnnotatorsChanged(number=number, alias=AnnotatorAlias(name=name, same_as=same_as)),
        )
        for number, (name, same_as) in enumerate(aliases)
    ]
    before = outcomes([*declared, *said], rule)
    assert outcomes([*said[:place], *declared, *said[place:]], rule) == before
    assert outcomes([*said, *declared], rule) == before
    for votes in before[0]:
        assert len({vote.annotator for vote in votes}) == len(votes), "one vote for each person"


@settings(max_examples=200, deadline=None)
@given(ANSWERS, NAMES, NAMES)
def test_results_admitted_with_an_alias_count_as_those_recorded_without(
    answers: list[tuple[int, str, int, int, int | None]], name: str, same_as: str
) -> None:
    """What is refused after a declaration is what does not count if it was recorded before."""
    early, late = (begun(0, 1, 2, annotators=25, annotators_max=25) for _ in range(2))
    alias(early, name, same_as)
    for sample_id, annotator, _, revision, label in answers:
        answer = {"withdrawn": True} if label is None else {"label": label}
        for labeling in (early, late):
            with suppress(WrongState):
                say(labeling, sample_id, annotator, revision=revision, **answer)
    alias(late, name, same_as)
    for sample_id in range(3):
        assert _said(early, sample_id) == _said(late, sample_id)


def _said(labeling: LabelingState, sample_id: int) -> set[tuple[str, int | Any]]:
    return {(vote.annotator, vote.outcome) for vote in resolution._votes(labeling, sample_id)}


@given(st.lists(st.tuples(NAMES, NAMES), max_size=12))
def test_names_partition_into_people(declared: list[tuple[str, str]]) -> None:
    """Compare with a plain list of who is who."""
    annotators, slow = Annotators(), {name: name for name in "abcdef"}
    for number, (name, same_as) in enumerate(declared):
        annotators.apply(AnnotatorsChanged(number=number, alias=AnnotatorAlias(name=name, same_as=same_as)))
        if name == same_as:
            slow[name] = name
        else:
            former, person = slow[name], slow[same_as]
            slow = {each: person if identity == former else identity for each, identity in slow.items()}
    for name, identity in slow.items():
        assert annotators.identity_of(name) == identity
        assert annotators.names_of(name) == {each for each, other in slow.items() if other == identity}
        assert annotators.has_several_names(name) == (len(annotators.names_of(name)) > 1)
