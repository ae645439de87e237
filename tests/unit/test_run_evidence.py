"""The next steps of runs that learn features, draw control samples, stop early, or audit their auto-labels."""

from __future__ import annotations

import pytest
from labelloop.events.v1.events_pb2 import (
    Accuracy,
    AutoLabelsCertified,
    Event,
    FeatureKind,
    FeaturesLearned,
    GuaranteeSpec,
    LabelProvided,
    LabelsRequested,
    ModelTrained,
    PoolPublished,
    Purpose,
    RunSpec,
    RunStarted,
    SamplesAutoLabelled,
    SampleSkipped,
    SkipKind,
    StoppingSpec,
)
from labelloop.scorer.v1.scorer_pb2 import Strategy

from tests.unit.test_run_state import NOW
from trainer_svc.domain.policy import AutoLabel, Certify, Finish, Fit, LearnFeatures, RequestLabels, Wait, next_step
from trainer_svc.domain.run_state import RunState

MARGIN, RANDOM = Strategy.STRATEGY_MARGIN, Strategy.STRATEGY_RANDOM


def begun(**changes: object) -> RunState:
    spec = RunSpec(strategy=MARGIN, first_strategy=RANDOM, batch_size=3, label_budget=6)
    for name, value in changes.items():
        if isinstance(value, (GuaranteeSpec, StoppingSpec)):
            getattr(spec, name).CopyFrom(value)
        else:
            setattr(spec, name, value)
    state = RunState.begin(Event(run_id="r", run_started=RunStarted(spec=spec)), NOW)
    state.apply(Event(run_id="r", pool_published=PoolPublished(sample_count=100)), NOW)
    return state


def take(state: RunState, **payload: object) -> None:
    state.apply(Event(run_id="r", round=state.round, **payload), NOW)  # type: ignore[arg-type]


def batch(
    state: RunState,
    *sample_ids: int,
    control: int = 0,
    audit: bool = False,
    skip: int = -1,
    kind: SkipKind.ValueType = SkipKind.SKIP_KIND_SKIPPED,
) -> None:
    """Request a batch, its last ``control`` as control samples, and label all but the sample ``skip``."""
    chosen = [Purpose.PURPOSE_CHOSEN] * (len(sample_ids) - control) + [Purpose.PURPOSE_CONTROL] * control
    purposes = [Purpose.PURPOSE_AUDIT] * len(sample_ids) if audit else chosen
    part = state.run_log.parts
    request = LabelsRequested(
        sample_ids=sample_ids, purposes=purposes, part=part, confidence=[0.5] * len(sample_ids), predicted=sample_ids
    )
    take(state, labels_requested=request)
    for sample_id in sample_ids:
        if sample_id == skip:
            take(state, sample_skipped=SampleSkipped(sample_id=sample_id, kind=kind))
        else:
            take(state, label_provided=LabelProvided(sample_id=sample_id, label=sample_id))


def fit(state: RunState, **figures: object) -> None:
    assert next_step(state) == Fit()
    trained = ModelTrained(model_sha256=f"m{state.round}", labels=len(state.training), **figures)  # type: ignore[arg-type]
    state.apply(Event(run_id="r", round=state.round + 1, model_trained=trained), NOW)


def test_features_are_learned_before_samples_are_requested() -> None:
    state = begun(features=FeatureKind.FEATURE_KIND_PATCHES)
    assert next_step(state) == LearnFeatures()
    take(state, features_learned=FeaturesLearned(features_sha256="f", feature_count=3))
    assert state.features_sha256 == "f"
    assert next_step(state) == RequestLabels(3, RANDOM)
    assert next_step(begun(features=FeatureKind.FEATURE_KIND_PIXELS)) == RequestLabels(3, RANDOM)


def test_digests_of_model_and_head_are_recorded_separately() -> None:
    state = begun()
    batch(state, 1, 2, 3)
    fit(state, head_sha256="h")
    assert (state.model_sha256, state.head_sha256) == ("m0", "h")


def test_first_batch_may_be_larger() -> None:
    state = begun(first_batch_size=5, label_budget=9)
    assert next_step(state) == RequestLabels(5, RANDOM)
    assert state.planned_rounds == 3
    batch(state, 1, 2, 3, 4, 5)
    fit(state)
    assert next_step(state) == RequestLabels(3, MARGIN)


def test_control_samples_reach_their_share_of_all_labels() -> None:
    state = begun(control_percent=25, label_budget=12)
    drawn = []
    for first in (10, 20, 30, 40):
        step = next_step(state)
        assert isinstance(step, RequestLabels)
        assert step.count + step.control == 3
        drawn.append(step.control)
        batch(state, first, first + 1, first + 2, control=step.control)
        fit(state)
    assert drawn == [0, 1, 1, 1]
    assert [each.sample_id for each in state.training if state.is_control(each)] == [22, 32, 42]


def test_random_strategy_draws_no_control_samples() -> None:
    state = begun(strategy=RANDOM, control_percent=50)
    assert next_step(state) == RequestLabels(3, RANDOM)


@pytest.mark.parametrize(("skipped", "control"), [(1, 0), (3, 1)])
def test_replacement_of_a_skipped_sample_has_the_same_purpose(skipped: int, control: int) -> None:
    state = begun(control_percent=50)
    batch(state, 1, 2, 3, control=1, skip=skipped)
    assert next_step(state) == RequestLabels(1 - control, RANDOM, 1, control)


def test_chosen_sample_becomes_a_control_once_the_random_order_reaches_it() -> None:
    state = begun(control_percent=50)
    batch(state, 1, 2, 3, control=1)
    fit(state)
    assert [each.sample_id for each in state.training if state.is_control(each)] == [3]
    purposes = [Purpose.PURPOSE_CHOSEN, Purpose.PURPOSE_CHOSEN, Purpose.PURPOSE_CONTROL]
    request = LabelsRequested(sample_ids=[4, 5, 6], purposes=purposes, also_control=[2, 5])
    take(state, labels_requested=request)
    for sample_id in (4, 5, 6):
        take(state, label_provided=LabelProvided(sample_id=sample_id, label=0))
    assert [each.sample_id for each in state.training if state.is_control(each)] == [2, 3, 5, 6]
    assert [example.purpose for example in state.training if example.sample_id == 2] == [Purpose.PURPOSE_CHOSEN]


def test_stopping_rule_ends_the_run_before_the_budget_is_spent() -> None:
    state = begun(stopping=StoppingSpec(target_accuracy=0.5))
    batch(state, 1, 2, 3)
    fit(state, control=Accuracy(correct=50, total=50))
    step = next_step(state)
    assert isinstance(step, Finish)
    assert "meets the target" in step.reason


def audited() -> RunState:
    state = begun(label_budget=3, guarantee=GuaranteeSpec(target_accuracy=0.9, confidence=0.9, audit_size=4))
    batch(state, 1, 2, 3)
    fit(state)
    assert next_step(state) == RequestLabels(4, RANDOM, audit=True)
    return state


def test_audit_labels_are_paid_beyond_the_budget_and_not_trained_on() -> None:
    state = audited()
    batch(state, 10, 11, 12, 13, audit=True)
    assert (state.labels_paid, state.audit_labels, len(state.training)) == (7, 4, 3)
    assert next_step(state) == Certify()
    assert [example.purpose for example in state.labelled[3:]] == [Purpose.PURPOSE_AUDIT] * 4


def test_sample_skipped_in_an_audit_is_replaced() -> None:
    state = audited()
    batch(state, 10, 11, 12, 13, audit=True, skip=12)
    assert next_step(state) == RequestLabels(1, RANDOM, 1, audit=True)
    batch(state, 14, audit=True)
    assert next_step(state) == Certify()
    assert (state.audit_labels, state.audit_unlabelled) == (4, 1)


@pytest.mark.parametrize("kind", [SkipKind.SKIP_KIND_SKIPPED, SkipKind.SKIP_KIND_REJECTED])
def test_audit_continues_with_fewer_labels_when_the_pool_is_exhausted(kind: SkipKind.ValueType) -> None:
    state = audited()
    state.run_log.taken.update(range(14, 100), range(10))
    batch(state, 10, 11, 12, 13, audit=True, skip=11, kind=kind)
    assert next_step(state) == Certify()
    assert (state.audit_labels, state.audit_unlabelled) == (3, 1)


def revised(state: RunState, sample_id: int, label: int) -> None:
    take(state, label_provided=LabelProvided(sample_id=sample_id, label=label, revision=1))


def test_revised_audit_label_leaves_certificate_and_auto_labels_unchanged() -> None:
    """The revision shows in the audit; the model, which never saw the label, is not refitted."""
    state = audited()
    batch(state, 10, 11, 12, 13, audit=True)
    certificate = AutoLabelsCertified(threshold=0.8, count=3)
    take(state, auto_labels_certified=certificate)
    revised(state, 12, 5)
    assert next_step(state) == AutoLabel(3)
    take(state, samples_auto_labelled=SamplesAutoLabelled(sample_ids=[20, 21, 22], classes=[0] * 3, confidence=[1] * 3))
    assert [(each.sample_id, each.label) for each in state.audit] == [(10, 10), (11, 11), (12, 5), (13, 13)]
    assert (state.run_log.certificate, state.labels_paid) == (certificate, 7)
    assert isinstance(next_step(state), Finish)


def test_audit_label_revised_in_an_open_batch_counts_as_revised() -> None:
    state = audited()
    request = LabelsRequested(sample_ids=[10, 11], purposes=[Purpose.PURPOSE_AUDIT] * 2)
    take(state, labels_requested=request)
    take(state, label_provided=LabelProvided(sample_id=10, label=1))
    revised(state, 10, 2)
    take(state, label_provided=LabelProvided(sample_id=11, label=1))
    assert next_step(state) == Certify()
    assert [each.label for each in state.audit] == [2, 1]


@pytest.mark.parametrize("count", [0, 3])
def test_certified_samples_are_auto_labelled_and_the_rest_is_left(count: int) -> None:
    state = audited()
    batch(state, 10, 11, 12, 13, audit=True)
    take(state, auto_labels_certified=AutoLabelsCertified(threshold=0.8, count=count))
    if count:
        assert next_step(state) == AutoLabel(3)
        given = SamplesAutoLabelled(sample_ids=[20, 21, 22], classes=[0] * 3, confidence=[0.9] * 3)
        take(state, samples_auto_labelled=given)
    step = next_step(state)
    assert isinstance(step, Finish)
    assert f"{count} samples are auto-labelled" in step.reason
    assert f"{93 - count} are left" in step.reason
    assert len(state.training) == 3
    assert len(state.labelled) == 7 + count
    assert next_step(begun()) != Wait()
