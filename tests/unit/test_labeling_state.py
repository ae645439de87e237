"""LabelingState: next action, open requests and validation of annotation results."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from labelloop.domain.ids import LeaseKey, RequestId
from labelloop.errors import InvalidInput, WrongState
from labelloop.events.v1.events_pb2 import (
    AgreementRule,
    AnnotatorAlias,
    AnnotatorsChanged,
    Event,
    GoldSample,
    LabelSource,
    LabelsRequested,
    PoolPublished,
    QueueSpec,
    RunFinished,
    RunSpec,
    RunStarted,
    SkipKind,
)
from labelloop.oracle.v1.oracle_pb2 import LabelResult

from oracle_svc.domain import resolution
from oracle_svc.domain.backlog import backlog_of
from oracle_svc.domain.labeling_state import Expire, LabelingState, Resolve, Wait, next_action
from oracle_svc.domain.open_requests import OpenRequest, for_annotator, for_tool, is_asked, revision_for_anybody
from oracle_svc.domain.result_validation import admit
from oracle_svc.integrations.request_retries import RequestRetries

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def begun(*sample_ids: int, **queue: Any) -> LabelingState:
    """Return a run that people label, with its first batch requested."""
    spec = RunSpec(label_source=LabelSource.LABEL_SOURCE_QUEUE, queue=QueueSpec(**queue))
    labeling = LabelingState.begin(Event(run_id="r", run_started=RunStarted(spec=spec)), NOW)
    labeling.apply(Event(run_id="r", pool_published=PoolPublished(sample_count=100, classes=["a", "b", "c"])), NOW)
    labeling.apply(Event(run_id="r", labels_requested=LabelsRequested(sample_ids=sample_ids)), NOW)
    return labeling


def say(labeling: LabelingState, sample_id: int, annotator: str = "", **answer: Any) -> Event | None:
    """Admit an annotation result and apply its event, as the log would deliver it."""
    result = LabelResult(request_id=f"r/0/{sample_id}", annotator=annotator, **answer)
    event = admit(labeling, result, "queue", "results")
    if event:
        labeling.apply(event, NOW)
    settle(labeling)
    return event


def settle(labeling: LabelingState) -> None:
    """Carry out a resolution that is due, as the oracle does."""
    match next_action(labeling, NOW):
        case Resolve(answered):
            events, disputed = resolution.settle(labeling, answered, {})
            labeling.disputed.update(disputed)
            for event in events:
                labeling.apply(event, NOW)
            labeling.mark_resolved(answered)


def label_of(labeling: LabelingState, sample_id: int) -> int | str | None:
    """Return the class of a sample, else its outcome's type."""
    standing = labeling.answers.standing.get(sample_id)
    if standing is None:
        return None
    return standing.label if hasattr(standing, "label") else type(standing).__name__


def samples(asks: list[OpenRequest]) -> list[tuple[int, int | None]]:
    return [(ask.sample_id, ask.slot) for ask in asks]


def test_the_first_result_holds_against_repeats_and_other_annotators() -> None:
    labeling = begun(3, 5)
    assert say(labeling, 3, "kim", label=1)
    assert say(labeling, 3, "kim", label=1) is None
    assert say(labeling, 3, "lee", label=1) is None, "it agrees"
    assert label_of(labeling, 3) == 1
    assert list(labeling.open) == [5]


def test_a_revision_replaces_the_label_and_a_late_older_revision_does_not() -> None:
    labeling = begun(3)
    say(labeling, 3, "kim", label=1)
    assert say(labeling, 3, "kim", label=2, revision=5)
    assert say(labeling, 3, "kim", label=0, revision=4) is None
    assert say(labeling, 3, "boss", label=0, revision=1), "anybody may correct, openly"
    assert label_of(labeling, 3) == 0
    assert labeling.answers.standing[3].revision == 2


def test_a_withdrawn_label_is_requested_again_from_any_annotator() -> None:
    labeling = begun(3, 5)
    say(labeling, 3, "kim", label=1)
    say(labeling, 3, "kim", withdrawn=True, revision=1)
    assert list(labeling.open) == [5, 3]
    assert say(labeling, 3, "kim", label=1) is None, "what was withdrawn does not come back by itself"
    assert say(labeling, 3, "lee", label=2)
    assert label_of(labeling, 3) == 2


def test_only_an_explicit_overrule_withdraws_the_label_of_another_annotator() -> None:
    labeling = begun(3, 5)
    say(labeling, 3, "kim", label=1)
    with pytest.raises(WrongState, match="kim"):
        say(labeling, 3, "lee", withdrawn=True, revision=1)
    assert label_of(labeling, 3) == 1
    event = say(labeling, 3, "boss", withdrawn=True, revision=1, overrules=True)
    assert event
    assert event.label_withdrawn.annotator == "boss"
    assert list(labeling.open) == [5, 3]


def test_a_tool_gets_a_new_request_after_a_withdrawal() -> None:
    labeling = begun(3, 5)
    before = {ask.sample_id: ask.lease for ask in for_tool(labeling, whole_samples=False)}
    say(labeling, 3, "kim", label=1)
    say(labeling, 3, "kim", withdrawn=True, revision=1)
    after = {ask.sample_id: ask for ask in for_tool(labeling, whole_samples=False)}
    assert (after[5].lease, revision_for_anybody(labeling, 5)) == (before[5], 0)
    assert after[3].lease != before[3], "the tool is done with the first request"
    assert after[3].request_id == "r/0/3/0"
    assert say(labeling, 3, "kim", label=2, revision=revision_for_anybody(labeling, 3))


@pytest.mark.parametrize("annotators", [1, 2])
@pytest.mark.parametrize("whole_samples", [True, False])
async def test_retries_shorten_the_leases_of_open_tool_requests(annotators: int, whole_samples: bool) -> None:
    """This includes samples whose label was withdrawn, gold samples among them."""
    labeling = begun(3, 5, annotators=annotators, gold=[GoldSample(sample_id=9, label=2)])
    for sample_id in (3, 9):
        say(labeling, sample_id, "kim", label=1)
        say(labeling, sample_id, "kim", withdrawn=True, revision=1)
    asks = list(for_tool(labeling, whole_samples=whole_samples))
    assert {ask.sample_id for ask in asks} == {3, 5, 9}
    assert [ask for ask in asks if not is_asked(labeling, ask.lease)] == []
    if not whole_samples:
        leases = ShortenedLeases()
        again = RequestRetries("tool", OneRun(labeling), leases)  # type: ignore[arg-type]
        for ask in asks:
            await again(RequestId.parse(ask.request_id))
        assert leases.shortened == [ask.lease for ask in asks]


class ShortenedLeases:
    """Leases that record which of them are shortened."""

    def __init__(self) -> None:
        self.shortened: list[LeaseKey] = []

    def pushes(self, key: LeaseKey) -> int:
        return 1

    async def shorten(self, key: LeaseKey, holder: str, to_s: float) -> None:
        self.shortened.append(key)


class OneRun:
    """Stand in for RunProjections, with one run."""

    def __init__(self, labeling: LabelingState) -> None:
        self.runs = {labeling.run_id: labeling}

    def notify(self, run_id: str) -> None:
        assert run_id in self.runs


def test_a_withdrawal_that_overtakes_its_label_wins() -> None:
    labeling = begun(3)
    assert say(labeling, 3, "kim", withdrawn=True, revision=1)
    assert say(labeling, 3, "kim", label=1) is None
    assert list(labeling.open) == [3]


def test_a_label_can_replace_a_skip() -> None:
    labeling = begun(3, 5)
    say(labeling, 3, "kim", skip=SkipKind.SKIP_KIND_REJECTED)
    say(labeling, 3, "kim", label=2, revision=1)
    assert label_of(labeling, 3) == 2


@pytest.mark.parametrize(
    ("reason", "result"),
    [
        ("NOT_ASKED_FOR", {"request_id": "r/0/4", "label": 1}),
        ("NOT_ASKED_FOR", {"request_id": "r/1/3", "label": 1}),
        ("UNKNOWN_CLASS", {"request_id": "r/0/3", "label": 3}),
        ("UNKNOWN_CLASS", {"request_id": "r/0/3", "class_name": "d"}),
        ("NO_ANSWER", {"request_id": "r/0/3"}),
        ("NO_ANSWER", {"request_id": "r/0/3", "withdrawn": False}),
        ("NO_SKIP_KIND", {"request_id": "r/0/3", "skip": SkipKind.SKIP_KIND_UNSPECIFIED}),
        ("NO_SKIP_KIND", {"request_id": "r/0/3", "skip": SkipKind.SKIP_KIND_EXPIRED}),
        ("BAD_TIME", {"request_id": "r/0/3", "label": 1, "time_spent_s": float("nan")}),
        ("BAD_TIME", {"request_id": "r/0/3", "label": 1, "time_spent_s": -1.0}),
        ("BAD_REVISION", {"request_id": "r/0/3", "label": 1, "revision": 2**32 - 1}),
        ("ANNOTATOR_TOO_LONG", {"request_id": "r/0/3", "label": 1, "annotator": "x" * 201}),
        ("COMMENT_TOO_LONG", {"request_id": "r/0/3", "label": 1, "comment": "x" * 1001}),
        ("SOURCE_EVENT_ID_TOO_LONG", {"request_id": "r/0/3", "label": 1, "source_event_id": "x" * 201}),
        ("BAD_ANNOTATOR", {"request_id": "r/0/3", "label": 1, "annotator": "a\u202eb"}),
        ("BAD_COMMENT", {"request_id": "r/0/3", "label": 1, "comment": "a\x1b[2J"}),
        ("BAD_SOURCE_EVENT_ID", {"request_id": "r/0/3", "label": 1, "source_event_id": "a\nb"}),
    ],
)
def test_invalid_results_are_refused_with_their_reason(reason: str, result: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as refused:
        admit(begun(3), LabelResult(**result), "queue", "results")
    assert refused.value.reason == reason


@pytest.mark.parametrize("name", ["c", " c ", "\u212b", "A\u030a"])
def test_a_result_may_give_the_class_by_name_however_it_is_composed(name: str) -> None:
    labeling = begun(3)
    assert labeling.pool is not None
    labeling.pool.classes[:] = ["a", "b", "c", "\u00c5"]
    say(labeling, 3, "kim", class_name=name)
    assert label_of(labeling, 3) == (2 if name.strip() == "c" else 3)


def test_a_result_that_names_no_class_is_refused_with_a_near_match() -> None:
    labeling = begun(3)
    assert labeling.pool is not None
    labeling.pool.classes[:] = ["cat", "dog"]
    with pytest.raises(InvalidInput, match="did you mean 'dog'"):
        say(labeling, 3, "kim", class_name="dogs")


def test_two_agreeing_annotators_make_a_label_to_which_a_third_adds_nothing() -> None:
    labeling = begun(3, annotators=2)
    assert samples(list(for_annotator(labeling, "kim"))) == [(3, 0), (3, 1)]
    say(labeling, 3, "kim", label=1)
    assert label_of(labeling, 3) is None
    assert samples(list(for_annotator(labeling, "kim"))) == [], "nobody is two annotators"
    assert samples(list(for_annotator(labeling, "lee"))) == [(3, 1)]
    say(labeling, 3, "lee", label=1)
    assert label_of(labeling, 3) == 1
    assert say(labeling, 3, "pat", label=1) is None
    assert label_of(labeling, 3) == 1


def test_a_third_annotator_decides_a_disagreement_and_may_revise_it() -> None:
    labeling = begun(3, 5, annotators=2, annotators_max=3)
    say(labeling, 3, "kim", label=1)
    say(labeling, 3, "lee", label=2)
    assert samples(list(for_annotator(labeling, "pat")))[0] == (3, 2)
    say(labeling, 3, "pat", label=2)
    assert label_of(labeling, 3) == 2
    say(labeling, 3, "pat", label=1, revision=1)
    assert label_of(labeling, 3) == 1
    assert labeling.answers.standing[3].revision == 1
    say(labeling, 3, "pat", withdrawn=True, revision=2)
    assert label_of(labeling, 3) == "LabelWithdrawn"
    assert 3 in labeling.open


def test_a_sample_without_agreement_is_skipped_as_disputed() -> None:
    labeling = begun(3, annotators=2, annotators_max=3)
    for label, annotator in enumerate(("kim", "lee", "pat")):
        say(labeling, 3, annotator, label=label)
    assert labeling.answers.standing[3].kind == SkipKind.SKIP_KIND_DISPUTED  # type: ignore[union-attr]


def test_results_that_arrive_during_a_resolution_are_counted() -> None:
    labeling = begun(3, annotators=1, gold=[])
    labeling.spec.queue.annotators = 2
    for annotator in ("kim", "lee"):
        event = admit(labeling, LabelResult(request_id="r/0/3", annotator=annotator, label=1), "queue", "results")
        assert event
        labeling.apply(event, NOW)
    action = next_action(labeling, NOW)
    assert isinstance(action, Resolve)
    [event], _ = resolution.settle(labeling, action.answered, {})
    for revision, annotator in ((1, "kim"), (1, "lee")):
        result = LabelResult(request_id="r/0/3", annotator=annotator, label=2, revision=revision)
        meanwhile = admit(labeling, result, "queue", "results")
        assert meanwhile
        labeling.apply(meanwhile, NOW)
    labeling.apply(event, NOW)
    labeling.mark_resolved(action.answered)
    settle(labeling)
    assert label_of(labeling, 3) == 2


def test_results_must_name_the_annotator_where_there_are_several() -> None:
    with pytest.raises(InvalidInput, match="which of them"):
        say(begun(3, annotators=2), 3, label=1)


def test_gold_samples_are_requested_like_others_and_never_become_labels() -> None:
    labeling = begun(3, 5, gold=[GoldSample(sample_id=9, label=2)])
    assert samples(list(for_annotator(labeling, "kim")))[0] == (9, 0)
    say(labeling, 9, "kim", label=1)
    assert samples(list(for_annotator(labeling, "kim"))) == [(3, 0), (5, 0)]
    assert samples(list(for_annotator(labeling, "lee")))[0] == (9, 1), "each annotator is tried"
    assert label_of(labeling, 9) is None


def test_a_tool_gets_one_request_per_annotator_or_one_per_sample() -> None:
    labeling = begun(3, 5, annotators=2)
    assert samples(list(for_tool(labeling, whole_samples=False))) == [(3, 0), (3, 1), (5, 0), (5, 1)]
    whole = list(for_tool(labeling, whole_samples=True))
    assert samples(whole) == [(3, None), (5, None)]
    assert [ask.request_id for ask in whole] == ["r/0/3", "r/0/5"]
    say(labeling, 3, "kim", label=1)
    say(labeling, 3, "lee", label=2)
    more = next(ask for ask in for_tool(labeling, whole_samples=True) if ask.sample_id == 3)
    assert (more.annotators, str(more.lease)) == (3, "r.0.3.of3"), "a third annotator is asked for anew"


def test_no_further_request_opens_while_the_last_result_is_unresolved() -> None:
    labeling = begun(3, annotators=2)
    say(labeling, 3, "kim", label=1)
    assert backlog_of(labeling, 0).disputed == 0, "one answer alone differs from none"
    event = admit(labeling, LabelResult(request_id="r/0/3", annotator="lee", label=2), "queue", "results")
    assert event
    labeling.apply(event, NOW)
    assert list(for_tool(labeling, whole_samples=False)) == []
    settle(labeling)
    assert samples(list(for_tool(labeling, whole_samples=False))) == [(3, 2)]
    assert backlog_of(labeling, 0).disputed == 1


def test_a_deadline_skips_unanswered_samples_and_labels_answered_ones() -> None:
    labeling = begun(3, 5, annotators=2, deadline_s=60)
    say(labeling, 3, "kim", label=1)
    assert next_action(labeling, NOW + timedelta(seconds=59)) == Wait()
    action = next_action(labeling, NOW + timedelta(seconds=60))
    assert isinstance(action, Expire)
    for event in resolution.expire(labeling, action.sample_ids, {}):
        labeling.apply(event, NOW)
    assert label_of(labeling, 3) == 1
    assert label_of(labeling, 5) == "SampleSkipped"
    with pytest.raises(WrongState, match="deadline"):
        say(labeling, 5, "lee", label=1)


def test_a_deadline_resolves_results_by_the_agreement_rule_of_the_run() -> None:
    labeling = begun(3, annotators=3, agreement=AgreementRule.AGREEMENT_RULE_DAWID_SKENE)
    say(labeling, 3, "kim", label=1)
    say(labeling, 3, "lee", label=2)
    assert resolution.to_weigh(labeling, [3]).keys() == {3}
    [event] = resolution.expire(labeling, [3], {3: {1: 0.1, 2: 0.9}})
    assert (event.label_provided.label, event.label_provided.answer_count) == (2, 2)
    [event] = resolution.expire(labeling, [3], {3: {1: 0.4, 2: 0.6}})
    assert event.sample_skipped.kind == SkipKind.SKIP_KIND_DISPUTED


def test_a_cancelled_sample_refuses_later_results() -> None:
    labeling = begun(3, 5, annotators=2)
    say(labeling, 3, "kim", label=1)
    labeling.apply(resolution.skipped(labeling, 3, SkipKind.SKIP_KIND_CANCELLED, "queue"), NOW)
    assert say(labeling, 3, "kim", label=1) is None, "it stood already"
    for annotator, revision in (("kim", 1), ("lee", 0), ("lee", 1)):
        with pytest.raises(WrongState, match="taken back"):
            say(labeling, 3, annotator, label=2, revision=revision)
    assert label_of(labeling, 3) == "SampleSkipped"


@pytest.mark.parametrize("kind", [SkipKind.SKIP_KIND_EXPIRED, SkipKind.SKIP_KIND_CANCELLED])
def test_revisions_cannot_reopen_an_expired_or_cancelled_sample(kind: SkipKind.ValueType) -> None:
    labeling = begun(3, 5)
    labeling.apply(resolution.skipped(labeling, 3, kind, "queue"), NOW)
    words: list[dict[str, Any]] = [{"label": 0}, {"withdrawn": True}, {"label": 2}]
    for revision, answer in enumerate(words):
        with pytest.raises(WrongState) as refused:
            say(labeling, 3, "kim", revision=revision, **answer)
        assert refused.value.reason == "TOO_LATE"
    assert list(labeling.open) == [5]


def test_a_run_that_ended_has_no_requests_and_refuses_first_results() -> None:
    labeling = begun(3)
    labeling.apply(Event(run_id="r", run_finished=RunFinished()), NOW)
    assert list(for_annotator(labeling, "kim")) == []
    with pytest.raises(WrongState, match="has ended"):
        say(labeling, 3, "kim", label=1)


@pytest.mark.parametrize("annotators", [1, 2])
def test_a_run_that_ended_refuses_revisions_and_withdrawals(annotators: int) -> None:
    labeling = begun(3, annotators=annotators)
    for annotator in ("kim", "lee"):
        say(labeling, 3, annotator, label=1)
    labeling.apply(Event(run_id="r", run_finished=RunFinished()), NOW)
    assert say(labeling, 3, "kim", label=1) is None, "it stood already"
    words: list[dict[str, Any]] = [{"label": 2}, {"withdrawn": True}]
    for answer in words:
        with pytest.raises(WrongState) as refused:
            say(labeling, 3, "kim", revision=1, **answer)
        assert refused.value.reason == "RUN_OVER"


@pytest.mark.parametrize("annotators", [1, 2])
def test_one_account_with_two_names_is_one_annotator(annotators: int) -> None:
    labeling = begun(3, annotators=annotators)
    assert say(labeling, 3, "old@example.com", annotator_id="tool:1", label=1)
    assert say(labeling, 3, "new@example.com", annotator_id="tool:1", label=1) is None
    revised = say(labeling, 3, "new@example.com", annotator_id="tool:1", label=2, revision=1)
    assert revised is not None
    given = revised.answer_given if annotators > 1 else revised.label_provided
    assert (given.annotator, given.annotator_id) == ("old@example.com", "tool:1")
    assert labeling.accounts.by_id == {"tool:1": "old@example.com"}


def test_a_name_without_an_id_and_the_same_name_with_one_are_one_annotator() -> None:
    labeling = begun(3, annotators=2)
    assert say(labeling, 3, "kim@example.com", label=1)
    assert say(labeling, 3, "kim@example.com", annotator_id="tool:1", label=1) is None
    assert say(labeling, 3, "lee@example.com", annotator_id="tool:2", label=1)


def test_an_annotator_id_that_is_too_long_is_refused() -> None:
    with pytest.raises(InvalidInput, match="annotator_id has 201 characters"):
        say(begun(3), 3, "kim", annotator_id="x" * 201, label=1)


@pytest.mark.parametrize("annotators", [1, 2])
def test_two_accounts_with_one_name_are_two_annotators_unless_people_declare_them_one(annotators: int) -> None:
    labeling = begun(3, annotators=annotators)
    assert say(labeling, 3, "kim", annotator_id="tool:1", label=1)
    second = say(labeling, 3, "kim", annotator_id="tool:2", label=2)
    assert second is not None
    assert second.answer_given.annotator == "kim (tool:2)"
    alias = AnnotatorsChanged(alias=AnnotatorAlias(name="kim (tool:2)", same_as="kim"))
    labeling.apply(Event(run_id="r", annotators_changed=alias), NOW)
    again = say(labeling, 3, "kim", annotator_id="tool:2", revision=1, label=0)
    assert again is not None
    assert labeling.identity_of("kim (tool:2)") == "kim"
    assert labeling.standing_answers(3)[0].label == 0 if annotators > 1 else again.HasField("label_provided")
