"""RunState and next_step: a run's state after each event, and the step that follows from it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from labelloop.events.v1.events_pb2 import (
    Event,
    FeatureKind,
    FeaturesLearned,
    Inheritance,
    LabelProvided,
    LabelsRequested,
    ModelTrained,
    PoolPublished,
    Purpose,
    RunCancelled,
    RunFinished,
    RunSpec,
    RunStarted,
    SamplesAutoLabelled,
    SampleSkipped,
    SkipKind,
)
from labelloop.scorer.v1.scorer_pb2 import Strategy

from trainer_svc.domain.policy import AutoLabel, Finish, Fit, LearnFeatures, RequestLabels, Wait, next_step
from trainer_svc.domain.run_state import RunState

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SPEC = RunSpec(
    strategy=Strategy.STRATEGY_MARGIN,
    first_strategy=Strategy.STRATEGY_RANDOM,
    batch_size=3,
    label_budget=5,
    auto_label_batch_size=4,
    auto_label_budget=6,
)


def begun(spec: RunSpec = SPEC, inheritance: Inheritance | None = None, *, pool: bool = True) -> RunState:
    started = RunStarted(spec=spec, inheritance=inheritance)
    state = RunState.begin(Event(run_id="r", run_started=started), NOW)
    if pool:
        state.apply(
            Event(run_id="r", pool_published=PoolPublished(sample_count=100, classes=[str(i) for i in range(10)])), NOW
        )
    return state


def asked(state: RunState, *sample_ids: int) -> None:
    request = LabelsRequested(sample_ids=sample_ids)
    state.apply(Event(run_id="r", round=state.round, labels_requested=request), NOW)


def labelled(state: RunState, *sample_ids: int) -> None:
    for sample_id in sample_ids:
        label = LabelProvided(sample_id=sample_id, label=sample_id % 10)
        state.apply(Event(run_id="r", round=state.round, label_provided=label), NOW)


def trained(state: RunState) -> None:
    auto = sum(example.auto_labelled for example in state.training)
    model = ModelTrained(model_sha256=f"m{state.round + 1}", labels=len(state.training) - auto, auto_labels=auto)
    state.apply(Event(run_id="r", round=state.round + 1, model_trained=model), NOW)


def test_no_samples_are_requested_before_the_pool_is_published() -> None:
    assert next_step(begun(pool=False)) == Wait()


def test_the_first_batch_is_requested_without_a_model() -> None:
    assert next_step(begun()) == RequestLabels(3, Strategy.STRATEGY_RANDOM)


def test_a_run_spends_its_label_budget_then_auto_labels_then_finishes() -> None:
    state = begun()
    asked(state, 7, 8, 9)
    assert next_step(state) == Wait()
    labelled(state, 7, 8)
    assert next_step(state) == Wait()
    labelled(state, 9)
    assert next_step(state) == Fit()
    trained(state)
    assert next_step(state) == RequestLabels(2, Strategy.STRATEGY_MARGIN)  # the last batch is smaller
    asked(state, 1, 2)
    labelled(state, 2, 1)
    trained(state)
    assert next_step(state) == AutoLabel(4)
    given_labels = SamplesAutoLabelled(sample_ids=[20, 21, 22, 23], classes=[0] * 4, confidence=[1.0] * 4)
    state.apply(Event(run_id="r", round=state.round, samples_auto_labelled=given_labels), NOW)
    assert next_step(state) == Fit()
    trained(state)
    assert next_step(state) == AutoLabel(2)
    rest = SamplesAutoLabelled(sample_ids=[24, 25], classes=[0] * 2, confidence=[1.0] * 2)
    state.apply(Event(run_id="r", round=state.round, samples_auto_labelled=rest), NOW)
    trained(state)
    assert isinstance(next_step(state), Finish)
    assert state.round == state.planned_rounds == 4
    state.apply(Event(run_id="r", round=4, run_finished=RunFinished(reason="done")), NOW)
    assert next_step(state) == Wait()
    assert state.over


def test_labels_that_exist_are_fitted_before_the_first_batch_is_chosen() -> None:
    given = Inheritance(sample_ids=[3, 4, 5], classes=[0, 1, 2], auto_labelled=[False] * 3)
    state = begun(SPEC, given)
    assert [example.source for example in state.training] == ["given"] * 3
    assert next_step(state) == Fit()
    trained(state)
    assert next_step(state) == RequestLabels(3, Strategy.STRATEGY_MARGIN)
    assert state.labels_paid == 0
    assert state.planned_rounds == 5


def skipped(state: RunState, *sample_ids: int) -> None:
    for sample_id in sample_ids:
        skip = SampleSkipped(sample_id=sample_id, kind=SkipKind.SKIP_KIND_SKIPPED)
        state.apply(Event(run_id="r", round=state.round, sample_skipped=skip), NOW)


def test_skipped_samples_are_replaced_before_the_fit() -> None:
    state = begun()
    asked(state, 7, 8, 9)
    skipped(state, 8)
    labelled(state, 7)
    assert (state.open_labels, next_step(state)) == (1, Wait())
    labelled(state, 9)
    assert next_step(state) == RequestLabels(1, Strategy.STRATEGY_RANDOM, part=1)
    asked(state, 5)
    skipped(state, 5)
    assert next_step(state) == RequestLabels(1, Strategy.STRATEGY_RANDOM, part=2)
    asked(state, 6)
    labelled(state, 6)
    assert next_step(state) == Fit()
    assert [example.sample_id for example in state.training] == [7, 9, 6]
    assert (state.labels_paid, state.samples_skipped) == (3, 2)
    trained(state)
    assert next_step(state) == RequestLabels(2, Strategy.STRATEGY_MARGIN)


def test_a_batch_that_is_skipped_entirely_is_replaced_entirely() -> None:
    state = begun()
    asked(state, 7, 8, 9)
    skipped(state, 9, 7, 8)
    assert next_step(state) == RequestLabels(3, Strategy.STRATEGY_RANDOM, part=1)


@pytest.mark.parametrize("labels", [0, 1])
def test_a_run_finishes_when_skips_exhaust_the_pool(labels: int) -> None:
    state = begun(SPEC, pool=False)
    state.apply(Event(run_id="r", pool_published=PoolPublished(sample_count=4)), NOW)
    asked(state, 0, 1, 2)
    labelled(state, *range(labels))
    skipped(state, *range(labels, 3))
    assert next_step(state) == RequestLabels(1, Strategy.STRATEGY_RANDOM, part=1)
    asked(state, 3)
    skipped(state, 3)
    if labels:
        assert next_step(state) == Fit()
        trained(state)
    assert next_step(state) == Finish("no sample of the pool is left to ask for")


def test_unrequested_and_repeated_labels_change_nothing() -> None:
    state = begun()
    labelled(state, 50)
    asked(state, 7, 8, 9)
    labelled(state, 7, 7, 50)
    assert state.labels_paid == 1
    assert state.open_labels == 2


@given(st.permutations(range(30, 36)), st.lists(st.integers(30, 35)))
def test_the_training_set_does_not_depend_on_the_order_of_labels(order: list[int], repeats: list[int]) -> None:
    state = begun(RunSpec(batch_size=6, label_budget=6))
    asked(state, 35, 31, 33, 30, 34, 32)
    labelled(state, *order[:3], *(sample_id for sample_id in repeats if sample_id in order[:3]), *order[3:])
    assert [example.sample_id for example in state.training] == [35, 31, 33, 30, 34, 32]
    assert state.labels_paid == 6


def test_inherited_samples_count_as_trained_and_are_not_requested_again() -> None:
    inheritance = Inheritance(
        run_id="p",
        sample_ids=[4, 5],
        classes=[1, 2],
        auto_labelled=[False, True],
        model_sha256="m",
        training_state_sha256="s",
    )
    state = begun(RunSpec(auto_label_batch_size=4, auto_label_budget=4), inheritance)
    assert next_step(state) == AutoLabel(4)
    assert (state.model_sha256, state.training_state_sha256) == ("m", "s")
    assert {*state.run_log.taken} == {4, 5}
    assert state.labels_paid == 0


INHERITED = Inheritance(
    run_id="p",
    sample_ids=[4, 5],
    classes=[1, 2],
    auto_labelled=[False, False],
    model_sha256="m",
    head_sha256="h",
    features_sha256="f",
    purposes=[Purpose.PURPOSE_CHOSEN, Purpose.PURPOSE_CONTROL],
)
ON_PATCHES = RunSpec(
    features=FeatureKind.FEATURE_KIND_PATCHES, batch_size=1, auto_label_batch_size=4, auto_label_budget=4
)


def learned(state: RunState, digest: str) -> None:
    features = FeaturesLearned(features_sha256=digest, feature_count=2)
    state.apply(Event(run_id="r", features_learned=features), NOW)


def test_equal_features_keep_the_inherited_head_and_control_samples() -> None:
    state = begun(ON_PATCHES, INHERITED)
    assert next_step(state) == LearnFeatures()
    learned(state, "f")
    assert (state.head_sha256, state.planned_rounds) == ("h", 1)
    assert next_step(state) == AutoLabel(4)
    assert [each.sample_id for each in state.training if state.is_control(each)] == [5]


def _without_features() -> Inheritance:
    older = Inheritance()
    older.CopyFrom(INHERITED)
    older.head_sha256 = older.features_sha256 = ""
    return older


@pytest.mark.parametrize("inheritance", [INHERITED, _without_features()], ids=["of other features", "of pixels"])
def test_an_inheritance_with_other_features_is_refitted_before_ranking(inheritance: Inheritance) -> None:
    state = begun(ON_PATCHES, inheritance)
    learned(state, "g")
    assert (state.head_sha256, next_step(state), state.planned_rounds) == ("", Fit(), 2)
    trained(state)
    assert next_step(state) == AutoLabel(4)


def test_a_run_on_pixels_refits_an_inheritance_with_learned_features() -> None:
    state = begun(RunSpec(auto_label_batch_size=4, auto_label_budget=4), INHERITED)
    assert (state.head_sha256, next_step(state)) == ("", Fit())


def test_a_cancelled_run_takes_no_step_but_keeps_pending_labels() -> None:
    state = begun()
    asked(state, 7, 8, 9)
    state.apply(Event(run_id="r", run_cancelled=RunCancelled(reason="enough")), NOW)
    labelled(state, 8)
    trained(state)
    assert next_step(state) == Wait()
    assert [example.sample_id for example in state.labelled] == [8]
    assert state.models == []


def outcome(state: RunState, kind: str, sample_id: int, **fields: int) -> None:
    event = Event(run_id="r", round=state.answers.rounds[sample_id])
    getattr(event, kind).SetInParent()
    said = getattr(event, kind)
    said.sample_id, said.revision = sample_id, state.answers.next_revision(sample_id)
    for name, value in fields.items():
        setattr(said, name, value)
    state.apply(event, NOW)


def test_a_revision_in_an_open_batch_takes_effect_at_once() -> None:
    state = begun()
    asked(state, 5, 9, 7)
    labelled(state, 5)
    outcome(state, "label_provided", 5, label=1)
    outcome(state, "label_withdrawn", 5)
    assert (state.labels_paid, state.open_labels) == (0, 3)
    labelled(state, 9, 7)
    outcome(state, "label_provided", 5, label=2)
    assert [(example.sample_id, example.label) for example in state.training] == [(5, 2), (9, 9), (7, 7)]


def test_a_revision_of_an_earlier_batch_waits_for_the_next_complete_batch() -> None:
    state = begun()
    asked(state, 1, 2, 3)
    labelled(state, 1, 2, 3)
    before = list(state.training)
    outcome(state, "label_provided", 2, label=9)
    outcome(state, "label_withdrawn", 1)
    assert state.training == before
    assert isinstance(next_step(state), Fit)
    trained(state)
    asked(state, 4, 5)
    labelled(state, 4)
    assert state.training == before
    labelled(state, 5)
    assert [(example.sample_id, example.label) for example in state.training] == [(2, 9), (3, 3), (4, 4), (5, 5)]
    assert state.labels_paid == 4
    trained(state)
    assert next_step(state) == RequestLabels(1, Strategy.STRATEGY_MARGIN), "what was withdrawn is asked for anew"


def test_a_run_that_lost_all_its_labels_requests_more_in_the_same_round() -> None:
    margin = Strategy.STRATEGY_MARGIN
    state = begun(RunSpec(batch_size=1, label_budget=2, strategy=margin, first_strategy=margin))
    asked(state, 1)
    labelled(state, 1)
    trained(state)
    outcome(state, "label_withdrawn", 1)
    asked(state, 2)
    outcome(state, "sample_skipped", 2)
    assert (state.training, state.labels_paid, state.run_log.news) == ([], 0, True)
    assert next_step(state) == RequestLabels(1, margin, part=1)
