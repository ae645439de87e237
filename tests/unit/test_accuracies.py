"""Accuracies by class: as they are counted, recorded and shown to clients, and what the log refuses of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from labelloop.domain.event_schema import shape_fault
from labelloop.domain.limits import BY_CLASS_MAX
from labelloop.events.v1.events_pb2 import Accuracy, Event, ModelTrained, Protocol, RunSpec

from trainer_svc.accuracies import measured, recorded
from trainer_svc.domain.run_state import Trained
from trainer_svc.model.adam_softmax import Count, start_state, with_bias
from trainer_svc.model.fit import FitJob, carry_out
from trainer_svc.model.tally import NOTHING, tally, tally_largest
from trainer_svc.status import round_result

PAIRS = st.lists(st.tuples(st.integers(-1, 4), st.integers(0, 4)), max_size=40)


@given(PAIRS)
def test_a_tally_is_a_count_of_each_class(pairs: list[tuple[int, int]]) -> None:
    predicted, labels = (np.array([pair[part] for pair in pairs], np.int64) for part in (0, 1))
    found = tally(predicted, labels, 6)
    for each in range(6):
        own = [said for said, label in pairs if label == each]
        assert (found.correct[each], found.total[each]) == (own.count(each), len(own))
    assert found.count == Count(sum(said == label for said, label in pairs), len(pairs))


def test_a_majority_hides_a_class_that_is_never_found_but_not_in_balanced_accuracy() -> None:
    labels = np.array([0] * 99 + [2])
    found = tally(np.zeros(100, np.int64), labels, 4)
    assert found.count == Count(99, 100)
    assert (found.most_frequent, found.balanced) == (99, 0.5)
    assert (NOTHING.count, NOTHING.most_frequent, NOTHING.balanced) == (Count(0, 0), 0, 0.0)


def test_the_largest_logit_is_the_prediction_and_the_first_of_ties() -> None:
    logits = torch.tensor([[1.0, 0.0, 2.0], [1.0, 3.0, 1.0]])
    found = tally_largest(logits, torch.tensor([1, 1, 0]))
    assert (found.correct.tolist(), found.total.tolist()) == ([1, 1], [1, 2])


def job(protocol: Protocol.ValueType) -> FitJob:
    features = with_bias(np.array([[0.0], [1], [10], [11], [0], [12]], np.float32))
    labels = torch.tensor([0, 0, 1, 1, 0, 1])
    return FitJob(
        spec=RunSpec(protocol=protocol, stopping_sample_count=2),
        dtype="float32",
        features=features,
        labels=labels,
        paid=torch.ones(6, dtype=torch.bool),
        control=torch.tensor([True, False, True, False, True, False]),
        start=start_state(3, 1, scale=0, seed=0),
        evaluation=(with_bias(np.array([[0.0], [12], [1]], np.float32)), torch.tensor([0, 1, 2])),
        report=True,
    )


def test_an_honest_fit_counts_by_class_on_evaluation_set_controls_and_labels() -> None:
    figures = carry_out(job(Protocol.PROTOCOL_HONEST)).figures
    assert (figures.evaluation.correct.tolist(), figures.evaluation.total.tolist()) == ([1, 1, 0], [1, 1, 1])
    assert figures.control.total.tolist() == [2, 1, 0]
    assert figures.stopping.total.tolist() == [3, 3, 0]


def test_a_published_fit_counts_by_class_where_it_stops() -> None:
    whole = job(Protocol.PROTOCOL_PUBLISHED)
    figures = carry_out(whole).figures
    assert (figures.stopping.total.tolist(), figures.evaluation.total.tolist()) == ([1, 1, 0], [1, 1, 1])
    assert carry_out(replace(whole, report=False)).figures.evaluation is NOTHING


def test_an_accuracy_is_recorded_with_the_share_that_guessing_would_have() -> None:
    shown = measured(recorded(tally(np.zeros(100, np.int64), np.array([0] * 90 + [1] * 10), 3)), by_class=True)
    assert shown is not None
    assert (shown.value, shown.baseline, shown.balanced) == (0.9, 0.9, 0.5)
    assert (list(shown.class_correct), list(shown.class_total)) == ([90, 0, 0], [90, 10, 0])
    assert measured(recorded(NOTHING), by_class=True) is None


def test_an_event_of_ten_thousand_classes_stays_small_and_keeps_the_summary() -> None:
    labels = np.arange(100_000) % 10_000
    accuracy = recorded(tally(labels, labels, 10_000))
    assert accuracy.ByteSize() < 50
    assert (accuracy.most_frequent, accuracy.balanced) == (10, 1.0)
    most = np.arange(100_000) % BY_CLASS_MAX
    accuracy = recorded(tally(most, most, BY_CLASS_MAX))
    assert len(accuracy.class_total) == BY_CLASS_MAX
    assert 3 * accuracy.ByteSize() < 50_000  # an event of three of them; the broker accepts a megabyte


def test_a_model_of_an_earlier_release_has_no_baseline() -> None:
    shown = measured(Accuracy(correct=9, total=10), by_class=True)
    assert shown is not None
    assert (shown.value, shown.baseline, shown.balanced, list(shown.class_total)) == (0.9, 0.0, 0.0, [])


def test_counts_by_class_are_left_out_of_a_result_unless_asked_for() -> None:
    event = ModelTrained(evaluation=recorded(tally(np.zeros(4, np.int64), np.array([0, 0, 0, 1]), 2)))
    trained = Trained(1, event, datetime(2026, 1, 1, tzinfo=UTC))
    short, whole = round_result(trained, 3), round_result(trained, 3, by_class=True)
    assert (list(short.evaluation.class_total), list(whole.evaluation.class_total)) == ([], [3, 1])
    assert short.evaluation.baseline == whole.evaluation.baseline == 0.75


SOUND = Accuracy(correct=3, total=4, most_frequent=3, balanced=0.5, class_correct=[3, 0], class_total=[3, 1])


def changed(**fields: object) -> Accuracy:
    accuracy = Accuracy()
    accuracy.CopyFrom(SOUND)
    for name, value in fields.items():
        if isinstance(value, list):
            del getattr(accuracy, name)[:]
            getattr(accuracy, name).extend(value)
        else:
            setattr(accuracy, name, value)
    return accuracy


@pytest.mark.parametrize("place", ["stopping", "evaluation", "control", "control_evaluation"])
@pytest.mark.parametrize(
    "accuracy",
    [
        changed(class_total=[4]),
        changed(class_total=[2, 1]),
        changed(class_correct=[2, 0]),
        changed(class_correct=[2, 1], class_total=[4, 0]),
        changed(most_frequent=2),
        Accuracy(correct=1, total=2, most_frequent=3),
        changed(balanced=1.5),
        changed(balanced=float("nan")),
        Accuracy(total=1, most_frequent=1, class_correct=[0] * 1_001, class_total=[1] + [0] * 1_000),
    ],
)
def test_counts_that_do_not_add_up_are_a_fault_of_the_event(accuracy: Accuracy, place: str) -> None:
    model = ModelTrained(model_sha256="0" * 64)
    getattr(model, place).CopyFrom(accuracy)
    assert "does not add up" in shape_fault(Event(run_id="r", round=1, model_trained=model))
    getattr(model, place).CopyFrom(SOUND)
    assert not shape_fault(Event(run_id="r", round=1, model_trained=model))
    getattr(model, place).CopyFrom(Accuracy(correct=9, total=10))
    assert not shape_fault(Event(run_id="r", round=1, model_trained=model))
