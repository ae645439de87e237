"""Slots of samples: nobody fills two, a gold sample has as many as there are annotators, and late answers are kept."""

from __future__ import annotations

from typing import Any

import pytest
from labelloop.domain.event_schema import shape_fault
from labelloop.errors import WrongState
from labelloop.events.v1.events_pb2 import Event, GoldSample, RunFinished, SkipKind
from labelloop.oracle.v1.oracle_pb2 import LabelResult

from oracle_svc.domain import resolution
from oracle_svc.domain.backlog import backlog_of
from oracle_svc.domain.labeling_state import LabelingState
from oracle_svc.domain.late_answers import contradicting
from oracle_svc.domain.open_requests import for_annotator, for_tool
from oracle_svc.domain.result_validation import admit
from tests.unit.test_labeling_state import NOW, begun, label_of, samples, say, settle

GOLD = [GoldSample(sample_id=9, label=2)]
SKIPPED = SkipKind.SKIP_KIND_SKIPPED


def say_to(labeling: LabelingState, request_id: str, annotator: str, **answer: Any) -> Event | None:
    """Admit a result for a request and apply its event, as the log would deliver it."""
    event = admit(labeling, LabelResult(request_id=request_id, annotator=annotator, **answer), "queue", "results")
    if event:
        assert shape_fault(event) == ""
        assert labeling.run_log.fault(event) == ""
        labeling.apply(event, NOW)
    settle(labeling)
    return event


def refused(labeling: LabelingState, request_id: str, annotator: str, **answer: Any) -> str:
    with pytest.raises(WrongState) as error:
        say_to(labeling, request_id, annotator, **answer)
    return error.value.reason


def test_nobody_fills_two_slots_of_a_sample() -> None:
    labeling = begun(3, annotators=2)
    assert say_to(labeling, "r/0/3/0", "kim", label=1)
    assert say_to(labeling, "r/0/3/0", "kim", label=1) is None, "a repetition"
    assert refused(labeling, "r/0/3/1", "kim", label=1) == "ANSWERED_ALREADY"
    assert refused(labeling, "r/0/3/1", "kim", label=1, revision=1) == "ANSWERED_ALREADY"
    assert samples(list(for_tool(labeling, whole_samples=False))) == [(3, 1)], "it is still asked for"
    assert say_to(labeling, "r/0/3/1", "lee", label=1)
    assert label_of(labeling, 3) == 1


def test_another_answer_of_the_same_revision_is_no_repetition() -> None:
    labeling = begun(3, annotators=2)
    say_to(labeling, "r/0/3/0", "kim", label=1, revision=2)
    assert refused(labeling, "r/0/3/0", "kim", label=2, revision=2) == "ANSWERED_ALREADY"
    assert refused(labeling, "r/0/3", "kim", skip=SKIPPED, revision=2) == "ANSWERED_ALREADY"
    assert say_to(labeling, "r/0/3/0", "kim", label=2, revision=1) is None, "an older revision that came late"
    assert say_to(labeling, "r/0/3/0", "kim", label=2, revision=3)


def test_a_result_moved_to_a_free_slot_is_repeated_under_its_own_request() -> None:
    labeling = begun(3, annotators=2)
    say_to(labeling, "r/0/3/0", "kim", label=1)
    event = say_to(labeling, "r/0/3/0", "lee", label=2)
    assert event
    assert (event.answer_given.slot, event.answer_given.requested_slot) == (1, 0)
    assert say_to(labeling, "r/0/3/0", "lee", label=2) is None
    assert refused(labeling, "r/0/3/2", "lee", label=2) == "ANSWERED_ALREADY"


def test_who_withdrew_an_answer_may_answer_any_request_of_the_sample() -> None:
    labeling = begun(3, annotators=2)
    say_to(labeling, "r/0/3/0", "kim", label=1)
    say_to(labeling, "r/0/3/0", "kim", withdrawn=True, revision=1)
    assert samples(list(for_tool(labeling, whole_samples=False))) == [(3, 1), (3, 2)]
    assert say_to(labeling, "r/0/3/1", "kim", label=2, revision=2)
    assert say_to(labeling, "r/0/3/1", "kim", label=2, revision=2) is None
    assert samples(list(for_tool(labeling, whole_samples=False))) == [(3, 1)]


def test_a_stale_revision_for_a_request_that_is_open_again_is_refused() -> None:
    labeling = begun(3, 5)
    say_to(labeling, "r/0/3/0", "kim", label=1)
    say_to(labeling, "r/0/3/0", "boss", withdrawn=True, overrules=True, revision=1)
    assert say_to(labeling, "r/0/3/0", "kim", label=1) is None, "the old result, delivered again"
    assert refused(labeling, "r/0/3/0", "kim", label=2) == "ANSWERED_ALREADY"
    assert say_to(labeling, "r/0/3/0", "kim", label=2, revision=2)


@pytest.mark.parametrize("annotators", [1, 2])
def test_a_tool_is_asked_for_a_gold_sample_as_often_as_it_has_annotators(annotators: int) -> None:
    labeling = begun(*range(20, 60), annotators=annotators, gold=GOLD)

    def gold_slots() -> list[int | None]:
        return [slot for sample_id, slot in samples(list(for_tool(labeling, whole_samples=False))) if sample_id == 9]

    assert gold_slots() == [*range(annotators)]
    say_to(labeling, "r/0/9/0", "kim", label=1)
    assert gold_slots() == [*range(1, annotators)], "kim cannot answer it again"
    say_to(labeling, "r/0/9/1", "lee", label=1)
    assert gold_slots() == []
    say_to(labeling, "r/0/20/0", "pat", label=1)
    assert gold_slots() == [2], "a further annotator is known"
    assert refused(labeling, "r/0/9/2", "lee", label=1) == "ANSWERED_ALREADY"
    assert samples(list(for_annotator(labeling, "new")))[0] == (9, 2), "people are all tried"


def test_an_answer_that_contradicts_a_settled_sample_is_kept_and_changes_nothing() -> None:
    labeling = begun(3, 5)
    say_to(labeling, "r/0/3/0", "kim", label=1)
    assert say_to(labeling, "r/0/3/0", "lee", label=1) is None, "it agrees"
    late = say_to(labeling, "r/0/3/0", "lee", label=2)
    assert late
    assert (late.answer_given.late_label, late.answer_given.annotator, late.answer_given.slot) == (2, "lee", 1000)
    assert say_to(labeling, "r/0/3/0", "lee", label=2) is None, "kept already"
    assert say_to(labeling, "r/0/3/0", "lee", skip=SKIPPED)
    assert say_to(labeling, "r/0/3/0", "kim", label=0), "of the same revision as the label"
    assert label_of(labeling, 3) == 1
    assert list(labeling.open) == [5]
    assert samples(list(for_tool(labeling, whole_samples=False))) == [(5, 0)]
    assert [each.annotator for each in contradicting(labeling, 3)] == ["lee", "lee", "kim"]
    backlog = backlog_of(labeling, 0)
    assert backlog.contradicted == 1
    assert {each.annotator: each.contradicting for each in backlog.annotators} == {"kim": 1, "lee": 1}


def test_a_late_answer_is_shown_no_more_once_its_annotator_agrees_until_they_differ_again() -> None:
    labeling = begun(3, 5)
    say_to(labeling, "r/0/3/0", "kim", label=1)
    say_to(labeling, "r/0/3/0", "lee", label=2, source_event_id="a")
    assert say_to(labeling, "r/0/3/0", "lee", label=1, source_event_id="b")
    assert contradicting(labeling, 3) == []
    assert say_to(labeling, "r/0/3/0", "lee", label=1, source_event_id="b") is None
    assert say_to(labeling, "r/0/3/0", "lee", label=2, source_event_id="a") is None, "it is delivered again"
    assert contradicting(labeling, 3) == []
    assert say_to(labeling, "r/0/3/0", "lee", label=2, source_event_id="c")
    assert {each.annotator for each in contradicting(labeling, 3)} == {"lee"}
    assert label_of(labeling, 3) == 1
    assert list(labeling.open) == [5]


def test_a_label_revised_to_what_was_said_late_is_contradicted_no_more() -> None:
    labeling = begun(3, 5)
    say_to(labeling, "r/0/3/0", "kim", label=1)
    say_to(labeling, "r/0/3/0", "lee", label=2)
    say_to(labeling, "r/0/3", "boss", label=2, revision=1)
    assert label_of(labeling, 3) == 2
    assert backlog_of(labeling, 0).contradicted == 0


def test_a_class_contradicts_a_skip_and_nothing_a_sample_that_was_given_up() -> None:
    labeling = begun(3, 5)
    say_to(labeling, "r/0/3/0", "kim", skip=SKIPPED)
    assert say_to(labeling, "r/0/3/0", "lee", skip=SkipKind.SKIP_KIND_REJECTED) is None, "no class, either"
    assert say_to(labeling, "r/0/3/0", "lee", label=2)
    labeling.apply(resolution.skipped(labeling, 5, SkipKind.SKIP_KIND_CANCELLED, "queue"), NOW)
    assert refused(labeling, "r/0/5/0", "lee", label=2) == "TOO_LATE"


def test_late_answers_are_kept_where_several_annotators_are_asked() -> None:
    labeling = begun(3, 5, annotators=2)
    say_to(labeling, "r/0/3/0", "kim", label=1)
    say_to(labeling, "r/0/3/1", "lee", label=1)
    assert say_to(labeling, "r/0/3", "pat", label=1) is None
    assert say_to(labeling, "r/0/3", "pat", label=2)
    assert label_of(labeling, 3) == 1
    say_to(labeling, "r/0/3/1", "lee", label=2, revision=1)
    assert list(labeling.open) == [5, 3], "it is disputed again, whatever pat said late"
    assert say_to(labeling, "r/0/3/2", "pat", label=2), "asked now"
    assert label_of(labeling, 3) == 2


def test_late_answers_of_a_sample_are_bounded_and_end_with_the_run() -> None:
    labeling = begun(3, 5)
    say_to(labeling, "r/0/3/0", "kim", label=1)
    for number in range(100):
        assert say_to(labeling, "r/0/3/0", f"a{number}", label=2)
    assert refused(labeling, "r/0/3/0", "one more", label=2) == "TOO_MANY_ANSWERS"
    labeling.apply(Event(run_id="r", run_finished=RunFinished()), NOW)
    assert say(labeling, 3, "lee", label=0) is None
