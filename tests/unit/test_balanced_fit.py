"""The fit in which each class weighs the same: against copies of rare samples, and what it does to their recall."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from labelloop.events.v1.events_pb2 import Protocol, RunSpec

from trainer_svc.model.adam_softmax import start_state
from trainer_svc.model.calibration import best_temperature
from trainer_svc.model.fit import FitJob, carry_out
from trainer_svc.model.penalized_softmax import minimise, rotate
from trainer_svc.model.regression import fit_regression

Labelled = tuple[torch.Tensor, torch.Tensor]


def overlapping(count: int, rare: int, seed: int = 0) -> Labelled:
    """Two classes of overlapping normal samples, ``rare`` of the second, as features with bias, and their labels."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(count) < rare).astype(np.int64)
    values = rng.normal(0, 1, (count, 5)) + labels[:, None]
    return torch.tensor(np.c_[values, np.ones(count)], dtype=torch.float32), torch.from_numpy(labels)


def recalls(weights: torch.Tensor, labelled: Labelled) -> list[float]:
    features, labels = labelled
    right = (features @ weights.T).argmax(1) == labels
    return [float(right[labels == each].double().mean()) for each in (0, 1)]


def balancing(labels: torch.Tensor) -> torch.Tensor:
    counts = torch.bincount(labels).double()
    return len(labels) / (len(counts) * counts[labels])


def test_a_weighted_fit_is_that_of_as_many_copies() -> None:
    features, labels = overlapping(80, 20)
    copies = torch.cat([torch.arange(80), torch.arange(20).repeat(2)])  # each rare sample three times
    turned = rotate(features[:, :-1])
    start = torch.zeros(2, turned.samples.shape[1] + 1, dtype=torch.float64)
    weighted, _ = minimise(turned.samples, labels, turned.variances, 2, 0.01, start, 1e-9, balancing(labels))
    copied, _ = minimise(turned.samples[copies], labels[copies], turned.variances, 2, 0.01, start, 1e-9)
    assert torch.allclose(weighted, copied, atol=1e-6)
    assert not torch.allclose(
        weighted, minimise(turned.samples, labels, turned.variances, 2, 0.01, start, 1e-9)[0], atol=0.1
    )


def test_a_weighted_temperature_is_that_of_as_many_copies() -> None:
    _, labels = overlapping(800, 200)
    logits = torch.from_numpy(np.random.default_rng(0).normal(0, 3, (800, 2)))
    logits[:, 0] += 2 * (labels == 0)
    copies = torch.cat([torch.arange(800), torch.arange(200).repeat(2)])
    weighted = best_temperature(logits, labels, balancing(labels))
    assert weighted == pytest.approx(best_temperature(logits[copies], labels[copies]), rel=0.05)
    assert weighted != pytest.approx(best_temperature(logits, labels), rel=0.1)


def test_more_of_a_rare_class_is_found_if_classes_weigh_the_same() -> None:
    labelled, test = overlapping(600, 12), overlapping(8_000, 4_000, seed=5)
    plain, balanced = (fit_regression(*labelled, 2, seed=0, balanced=each) for each in (False, True))
    assert recalls(plain.weights, test)[1] < 0.5
    assert min(recalls(balanced.weights, test)) > 0.7
    assert balanced.held_out.total == plain.held_out.total == 600
    assert balanced.held_out.correct < plain.held_out.correct  # counted as they are: most are of the frequent class


def test_classes_with_equally_many_labels_are_fitted_as_without_weights() -> None:
    labelled = overlapping(60, 30)
    plain, balanced = (fit_regression(*labelled, 2, seed=0, balanced=each) for each in (False, True))
    assert torch.allclose(plain.weights, balanced.weights, atol=1e-4)
    assert (plain.l2, plain.temperature) == pytest.approx((balanced.l2, balanced.temperature))


@settings(deadline=None, max_examples=15)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=12))
def test_few_labels_of_any_classes_yield_a_finite_balanced_model(classes: list[int]) -> None:
    rng = np.random.default_rng(len(classes))
    features = torch.tensor(np.c_[rng.normal(size=(len(classes), 5)), np.ones(len(classes))], dtype=torch.float32)
    fitted = fit_regression(features, torch.tensor(classes), 4, seed=0, balanced=True)
    assert bool(torch.isfinite(fitted.weights).all())
    assert 0 <= fitted.calibration_error <= 1


def job(labelled: Labelled) -> FitJob:
    features, labels = labelled
    return FitJob(
        spec=RunSpec(protocol=Protocol.PROTOCOL_HONEST),
        dtype="float32",
        features=features,
        labels=labels,
        paid=torch.ones(len(labels), dtype=torch.bool),
        control=torch.arange(len(labels)) % 2 == 0,
        start=start_state(2, 5, scale=0, seed=0),
        evaluation=overlapping(4_000, 40, seed=5),
        report=True,
    )


def test_a_run_balances_its_models_and_those_of_its_controls_on_request() -> None:
    plain = job(overlapping(400, 8))
    balanced = replace(plain, spec=RunSpec(protocol=Protocol.PROTOCOL_HONEST, balance_classes=True))
    one, two = carry_out(plain), carry_out(balanced)
    assert one.model != two.model
    assert one.figures.evaluation.count.correct > two.figures.evaluation.count.correct
    assert one.figures.control_evaluation.correct > two.figures.control_evaluation.correct
