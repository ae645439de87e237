"""Contents of the sections of a run's report."""

from __future__ import annotations

from collections import Counter

import pytest
from labelloop.domain.proportion import Proportion
from labelloop.events.v1.events_pb2 import PoolPublished, Protocol, Purpose, RunSpec, StoppingSpec
from labelloop.trainer.v1.trainer_pb2 import (
    GetRunResponse,
    LabelRecord,
    MeasuredAccuracy,
    Phase,
    RoundResult,
    RunStatus,
)
from labelloop_cli.reporting import sections


def measured(value: float) -> MeasuredAccuracy:
    return MeasuredAccuracy(correct=round(100 * value), total=100, value=value, low=value - 0.1, high=value + 0.05)


def run_of(rounds: list[RoundResult], **spec: object) -> GetRunResponse:
    made = RunSpec(protocol=Protocol.PROTOCOL_HONEST, label_budget=100, **spec)  # type: ignore[arg-type]
    run = RunStatus(spec=made, phase=Phase.PHASE_FINISHED, labels_paid=rounds[-1].labels, pool=PoolPublished())
    return GetRunResponse(run=run, rounds=rounds)


def auto(sample_id: int, label: int) -> LabelRecord:
    return LabelRecord(sample_id=sample_id, label=label, auto_labelled=True)


def test_auto_labels_are_judged_by_hidden_labels_if_known() -> None:
    labels = [auto(0, 1), auto(1, 1), auto(2, 0), LabelRecord(sample_id=3, label=0)]
    judged = sections.auto_labels(labels, {0: 1, 1: 0, 3: 1})
    assert (judged.count, judged.right, judged.share) == (2, 1, Proportion(1, 2))
    assert sections.auto_labels(labels, None).share is None
    assert sections.auto_labels([], {0: 1}).share is None


def rounds_of_rules() -> list[RoundResult]:
    return [
        RoundResult(labels=20, expected_accuracy=0.8, control=measured(0.7), control_bound=0.5),
        RoundResult(labels=40, expected_accuracy=0.9, agreement=0.95, control=measured(0.8), control_bound=0.6),
        RoundResult(labels=60, expected_accuracy=0.9, agreement=0.995, control=measured(0.9), control_bound=0.8),
    ]


ALL_RULES = StoppingSpec(target_accuracy=0.8, stable_rounds=1, plateau_rounds=2, label_price=1, point_worth=1)


def test_values_of_stopping_rules_are_drawn_with_the_stop() -> None:
    stopped = sections.stopping(run_of(rounds_of_rules(), stopping=ALL_RULES))
    assert stopped is not None
    assert stopped.budget_left == 40
    for said in ("agreement", "expected accuracy", "lower bound over all looks (target 0.8)", ">stopped<"):
        assert said in stopped.chart


def test_only_active_rules_are_drawn_and_a_spent_budget_is_no_stop() -> None:
    whole = run_of(rounds_of_rules(), stopping=StoppingSpec(target_accuracy=0.95))
    whole.run.labels_paid = 130
    whole.run.audit_labels = 30
    found = sections.stopping(whole)
    assert found is not None
    assert found.budget_left == 0
    assert "lower bound" in found.chart
    assert not [said for said in ("agreement", "expected accuracy", ">stopped<") if said in found.chart]
    assert sections.stopping(run_of(rounds_of_rules())) is None


@pytest.mark.parametrize(
    ("purpose", "count", "on"),
    [
        (Purpose.PURPOSE_AUDIT, 30, "30 audited samples"),
        (Purpose.PURPOSE_CONTROL, 31, "31 control samples"),
        (Purpose.PURPOSE_AUDIT, 29, None),
        (Purpose.PURPOSE_CHOSEN, 100, None),
    ],
)
def test_reliability_needs_30_samples_drawn_at_random(purpose: Purpose.ValueType, count: int, on: str | None) -> None:
    labels = [
        LabelRecord(purpose=purpose, predicted=0, label=each % 2, confidence=each / count) for each in range(count)
    ]
    found = sections.reliability(labels)
    assert (found.on.startswith(on) if found and on else found is None) is True


def test_calibration_is_drawn_only_where_it_was_measured() -> None:
    rounds = [RoundResult(labels=each, calibration_error=0.1, evaluation_calibration_error=0.05) for each in (10, 20)]
    assert "evaluation set" in sections.calibration(rounds)
    for each in rounds:
        each.evaluation_calibration_error = 0
    assert "cross-validation" in sections.calibration(rounds)
    assert "evaluation set" not in sections.calibration(rounds)
    assert sections.calibration([RoundResult(labels=10)]) == ""


def test_class_shares_of_the_pool_are_estimated_from_labels_and_predictions() -> None:
    chosen, audit = Purpose.PURPOSE_CHOSEN, Purpose.PURPOSE_AUDIT
    labels = [
        *(LabelRecord(label=0, purpose=chosen) for _ in range(3)),
        LabelRecord(label=1, purpose=chosen),
        LabelRecord(label=1, purpose=audit),
        auto(9, 1),
    ]
    found = sections.balance(labels, Counter({1: 4}), {0: 0, 1: 1}, ["cat", "dog"])
    assert found.rows == [
        sections.ClassRow("cat", 3, 0, 0.75, 0.3, 0.5),
        sections.ClassRow("dog", 1, 1, 0.25, 0.7, 0.5),
    ]
    assert "truly" in found.chart
    blind = sections.balance(labels, Counter(), None, ["cat", "dog"])
    assert blind.rows[0].of_truth is None
    assert "truly" not in blind.chart


def test_a_learning_curve_shows_only_one_kind_of_accuracy() -> None:
    rounds = [
        RoundResult(labels=10, control=measured(0.2)),
        RoundResult(labels=20, control=measured(0.3), evaluation=measured(0.9)),
        RoundResult(labels=30, evaluation=measured(0.95)),
    ]
    whole = sections.learning(run_of(rounds))
    assert whole == sections.learning(run_of(rounds[1:]))
    assert sections.learning(run_of([RoundResult(labels=10)])) == ""
