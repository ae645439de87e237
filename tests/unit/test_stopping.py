"""Stopping rules, which end labelling before its budget is spent."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from labelloop.events.v1.events_pb2 import Accuracy, ModelTrained, StoppingSpec
from sklearn.metrics import cohen_kappa_score

from trainer_svc.domain.stopping import expected_gain, kappa, reason_to_stop, stopping_faults


def models(*expected: float, agreement: float = 0.0, control: tuple[int, int] = (0, 0)) -> list[ModelTrained]:
    """One model every ten labels; the last is judged on control samples."""
    made = [
        ModelTrained(labels=10 * number, expected_accuracy=value, agreement=agreement)
        for number, value in enumerate(expected, 1)
    ]
    made[-1].control.CopyFrom(Accuracy(correct=control[0], total=control[1]))
    return made


def test_without_a_rule_or_a_model_labelling_continues() -> None:
    assert not reason_to_stop(StoppingSpec(), models(0.9, 0.9, 0.9, agreement=1, control=(99, 99)), 1)
    assert not reason_to_stop(StoppingSpec(plateau_rounds=1, stable_rounds=1, target_accuracy=0.1), [], 1)


@pytest.mark.parametrize(("correct", "looks", "stops"), [(20, 1, True), (20, 2, False), (19, 1, False)])
def test_the_target_is_met_by_the_lower_bound_corrected_for_all_looks(correct: int, looks: int, stops: bool) -> None:
    spec = StoppingSpec(target_accuracy=0.86)  # 20 of 20 give a bound of 0.861, and 0.832 with two looks
    assert bool(reason_to_stop(spec, models(0.5, control=(correct, 20)), looks)) == stops


def test_the_stated_number_of_models_in_a_row_must_agree() -> None:
    spec = StoppingSpec(stable_rounds=2)
    steady = models(0.5, 0.5, 0.5, agreement=0.995)
    assert "last 2 models agree" in reason_to_stop(spec, steady, 1)
    steady[-2].agreement = 0.98
    assert not reason_to_stop(spec, steady, 1)
    assert not reason_to_stop(spec, steady[-1:], 1)


def test_the_reason_says_what_guessing_the_most_frequent_class_would_give() -> None:
    model = ModelTrained(labels=100, control=Accuracy(correct=99, total=100, most_frequent=98))
    model.control.class_total.extend([98, 2])
    spec = StoppingSpec(target_accuracy=0.9)
    said = reason_to_stop(spec, [model], 1)
    assert "99 of 100 control samples are right (98 % by guessing the most frequent class): at least 95.3 %" in said
    del model.control.class_total[:]  # as for more than a thousand classes
    assert reason_to_stop(spec, [model], 1) == said
    model.control.ClearField("most_frequent")  # as in earlier releases
    assert "guessing" not in reason_to_stop(spec, [model], 1)


def test_a_plateau_is_accuracy_that_exceeds_no_earlier_one() -> None:
    spec = StoppingSpec(plateau_rounds=2)
    assert "has not risen for 2" in reason_to_stop(spec, models(0.5, 0.8, 0.79, 0.8), 1)
    assert not reason_to_stop(spec, models(0.5, 0.8, 0.79, 0.81), 1)
    assert not reason_to_stop(spec, models(0.8, 0.8), 1)


def test_the_gain_of_the_next_label_is_the_slope_of_the_curve() -> None:
    """Where accuracy is 0.1 ln(labels), the next label after n gains about 10 / n percentage points."""
    labels = [10.0 * number for number in range(1, 9)]
    curve = models(*(0.1 * math.log(each) for each in labels))
    assert expected_gain(curve) == pytest.approx(10 / 80, rel=1e-3)
    assert expected_gain(curve[:4]) is None
    assert "less than its price of 1.0" in reason_to_stop(StoppingSpec(label_price=1.0, point_worth=7.9), curve, 1)
    assert not reason_to_stop(StoppingSpec(label_price=1.0, point_worth=8.1), curve, 1)
    assert expected_gain(models(*([0.5] * 8))) == 0


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=40))
def test_kappa_is_cohens_kappa(pairs: list[tuple[int, int]]) -> None:
    one, other = np.array(pairs).T
    if len({*one.tolist(), *other.tolist()}) > 1:
        assert kappa(one, other, 4) == pytest.approx(cohen_kappa_score(one, other))
    else:
        assert kappa(one, other, 4) == 1


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        (StoppingSpec(target_accuracy=1), "target_accuracy"),
        (StoppingSpec(target_accuracy=math.nan), "target_accuracy"),
        (StoppingSpec(label_price=-1, point_worth=1), "label_price"),
        (StoppingSpec(label_price=1, point_worth=math.inf), "point_worth"),
        (StoppingSpec(label_price=1), "label_price"),
    ],
)
def test_faults_name_the_invalid_field(spec: StoppingSpec, field: str) -> None:
    assert field in [name for name, _ in stopping_faults(spec)]
