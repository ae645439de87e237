"""The fit of the honest protocol: against its definition, and with labels that are few, of one class, or untrusted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from trainer_svc.model.adam_softmax import count_correct, with_bias
from trainer_svc.model.calibration import best_temperature, calibration_error
from trainer_svc.model.penalized_softmax import LogLoss, minimise, rotate
from trainer_svc.model.regression import AS_THEY_VARY, EVENLY, Regression, fit_regression

CLASSES = 4


def digits(count: int, seed: int = 0, size: int = 25) -> tuple[torch.Tensor, torch.Tensor]:
    """Noisy images of four classes, as features with bias, and their labels."""
    rng = np.random.default_rng(seed)
    kinds = np.random.default_rng(99).integers(0, 255, (CLASSES, size))
    labels = rng.integers(0, CLASSES, count)
    samples = np.clip(kinds[labels] + rng.normal(0, 150, (count, size)), 0, 255).astype(np.uint8)
    return with_bias(samples), torch.from_numpy(labels)


def loss(weights: torch.Tensor, features: torch.Tensor, labels: torch.Tensor, l2: float) -> torch.Tensor:
    log_loss = torch.nn.functional.cross_entropy(features.double() @ weights.T, labels)
    return log_loss + l2 / 2 * (weights[:, :-1] ** 2).sum()


@pytest.mark.parametrize(("count", "size"), [(30, 100), (200, 25), (3, 25)])
def test_gradient_is_zero_at_the_minimum_found(count: int, size: int) -> None:
    """The gradient of the penalised loss, by autograd in the coordinates before the rotation."""
    features, labels = digits(count, size=size)
    turned = rotate(features[:, :-1])
    start = torch.zeros(CLASSES, turned.samples.shape[1] + 1, dtype=torch.float64)
    found, _ = minimise(turned.samples, labels, turned.variances, CLASSES, 0.01, start, 1e-8)
    weights = turned.unrotated(found).requires_grad_()
    loss(weights, features, labels, 0.01).backward()  # type: ignore[no-untyped-call]
    assert weights.grad is not None
    assert float(weights.grad.abs().max()) < 1e-6


def test_chosen_penalty_is_no_worse_than_much_larger_or_smaller_ones() -> None:
    features, labels = digits(150)
    fitted = fit_regression(features, labels, CLASSES, seed=0)
    assert fitted.held_out.total == 150
    right = fitted.held_out_probabilities.argmax(axis=1) == labels.numpy()
    assert fitted.held_out.correct == right.sum()
    test = digits(4_000, seed=5)
    judged = count_correct(fitted.weights, *test)
    assert fitted.held_out.correct / 150 == pytest.approx(judged.correct / judged.total, abs=0.1)
    for strength in (fitted.l2 * 1_000, fitted.l2 / 1_000):
        turned = rotate(features[:, :-1])
        start = torch.zeros(CLASSES, turned.samples.shape[1] + 1, dtype=torch.float64)
        other, _ = minimise(turned.samples, labels, turned.variances, CLASSES, strength, start, 1e-6)
        assert count_correct(turned.unrotated(other).float(), *test) <= (judged.correct, judged.total)


def test_exported_probabilities_are_calibrated() -> None:
    fitted = fit_regression(*digits(300), CLASSES, seed=0)
    features, labels = digits(5_000, seed=5)
    error = calibration_error(torch.softmax(features @ fitted.weights.T, 1).numpy(), labels.numpy())
    assert error < 0.05
    assert fitted.calibration_error < 0.12


def weights_of(fitted: Regression) -> bytes:
    return bytes(fitted.weights.numpy().tobytes())


def test_fits_are_reproducible_bit_for_bit() -> None:
    features, labels = digits(60)
    one, two = (fit_regression(features, labels, CLASSES, seed=2) for _ in range(2))
    assert weights_of(one) == weights_of(two)
    assert weights_of(one) != weights_of(fit_regression(features[1:], labels[1:], CLASSES, seed=2))


@settings(deadline=None, max_examples=15)
@given(st.lists(st.integers(0, CLASSES - 1), min_size=1, max_size=12), st.booleans())
def test_few_labels_of_any_classes_yield_a_finite_model(classes: list[int], alike: bool) -> None:
    features = digits(len(classes))[0]
    if alike:
        features = features[:1].repeat(len(classes), 1)
    fitted = fit_regression(features, torch.tensor(classes), CLASSES, seed=0)
    assert bool(torch.isfinite(fitted.weights).all())
    assert fitted.held_out.total <= len(classes)
    if len({*classes}) == 1:
        assert count_correct(fitted.weights, features, torch.tensor(classes)).correct == len(classes)


def test_untrusted_labels_are_not_used_for_evaluation() -> None:
    features, labels = digits(80)
    trusted = torch.arange(80) < 40
    fitted = fit_regression(features, labels, CLASSES, seed=0, trusted=trusted)
    assert fitted.held_out.total == 40
    judged = ~np.isnan(fitted.held_out_probabilities).any(axis=1)
    assert judged.tolist() == trusted.tolist()


def plain_calibration_error(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    total = 0.0
    for low in range(15):
        rows = [
            (max(row), int(np.argmax(row)) == label)
            for row, label in zip(probabilities, labels, strict=True)
            if low / 15 <= max(row) < (low + 1) / 15 or (low == 14 and max(row) == 1)
        ]
        if rows:
            confidence, right = np.mean(rows, axis=0)
            total += abs(confidence - right) * len(rows) / len(labels)
    return float(total)


def test_calibration_error_matches_its_definition() -> None:
    rng = np.random.default_rng(0)
    probabilities, labels = rng.dirichlet([0.3] * 3, 500), rng.integers(0, 3, 500)
    assert calibration_error(probabilities, labels) == pytest.approx(plain_calibration_error(probabilities, labels))
    assert calibration_error(probabilities[:0], labels[:0]) == 0


@pytest.mark.parametrize("temperature", [0.2, 1.0, 3.0])
def test_temperature_of_scaled_logits_is_recovered(temperature: float) -> None:
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(0, 2, (4_000, 3)))
    labels = _drawn(logits, rng)
    assert best_temperature(logits * temperature, labels) == pytest.approx(temperature, rel=0.1)


def _drawn(logits: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    sums = torch.softmax(logits, 1).cumsum(1).numpy()
    return torch.from_numpy((rng.random((len(sums), 1)) > sums).sum(axis=1))


def test_directions_of_low_variance_are_shrunk_more_if_that_is_more_accurate() -> None:
    """The directions that separate the classes vary most; 200 other directions are noise."""
    rng = np.random.default_rng(0)
    labels = torch.arange(60) % CLASSES
    telling = 3 * np.eye(CLASSES)[labels] + rng.normal(0, 1, (60, CLASSES))
    noise = rng.normal(0, 0.7, (60, 200))
    features = torch.tensor(np.c_[telling, noise, np.ones(60)], dtype=torch.float32)
    evenly, chosen = (fit_regression(features, labels, CLASSES, seed=0, powers=each) for each in (EVENLY, AS_THEY_VARY))
    assert chosen.held_out.correct > evenly.held_out.correct
    length = chosen.weights[:, CLASSES:-1].norm() / chosen.weights[:, :CLASSES].norm()
    assert length < evenly.weights[:, CLASSES:-1].norm() / evenly.weights[:, :CLASSES].norm()


def test_unrotated_weights_give_the_logits_of_the_rotated_samples() -> None:
    features, _ = digits(40)
    rotated = rotate(features[:, :-1])
    weights = torch.from_numpy(np.random.default_rng(0).normal(size=(CLASSES, rotated.samples.shape[1] + 1)))
    for seen in (rotated, rotated.favouring(0.35)):
        logits = seen.samples @ weights[:, :-1].T + weights[:, -1]
        assert torch.allclose(features.double() @ seen.unrotated(weights).T, logits, atol=1e-6)


@pytest.mark.parametrize(("count", "size"), [(30, 100), (200, 25), (25, 25)])
def test_rotated_samples_are_the_centred_ones_along_orthogonal_directions(count: int, size: int) -> None:
    """With fewer samples than features, they come from eigenvectors and not from a product with the directions."""
    features, _ = digits(count, size=size)
    rotated = rotate(features[:, :-1])
    directions = rotated.span @ rotated.combinations
    centred = features[:, :-1].double() - rotated.mean
    assert torch.allclose(rotated.samples, centred @ directions, atol=1e-9)
    assert torch.allclose(directions.T @ directions, torch.eye(directions.shape[1], dtype=torch.float64), atol=1e-9)
    assert torch.allclose(rotated.samples @ directions.T, centred, atol=1e-9)
    assert torch.allclose(rotated.samples.square().mean(0), rotated.variances, atol=1e-12)


def test_one_loss_minimised_with_several_penalties_is_each_minimised_alone() -> None:
    features, labels = digits(60)
    turned = rotate(features[:, :-1])
    start = torch.zeros(CLASSES, turned.samples.shape[1] + 1, dtype=torch.float64)
    shared = LogLoss(turned.samples, labels, turned.variances, CLASSES)
    for l2 in (1.0, 0.01, 1.0):
        found, steps = shared.minimised(l2, start, 1e-5)
        alone, alone_steps = minimise(turned.samples, labels, turned.variances, CLASSES, l2, start, 1e-5)
        assert steps == alone_steps
        assert torch.equal(found, alone)


def with_others(features: torch.Tensor, others: NDArray[np.float64]) -> torch.Tensor:
    """Put further columns behind the features, before the bias."""
    return torch.cat([features[:, :-1], torch.from_numpy(others).float(), features[:, -1:]], 1)


def test_optional_columns_that_mislead_are_left_out_without_a_trace() -> None:
    features, labels = digits(120)
    noise = np.random.default_rng(7).normal(0, 3, (120, 6))
    alone = fit_regression(features, labels, CLASSES, seed=0)
    fitted = fit_regression(with_others(features, noise), labels, CLASSES, seed=0, optional=6)
    assert not fitted.weights[:, -7:-1].any()
    assert torch.equal(torch.cat([fitted.weights[:, :-7], fitted.weights[:, -1:]], 1), alone.weights)
    np.testing.assert_array_equal(fitted.held_out_probabilities, alone.held_out_probabilities)


def test_optional_columns_that_tell_classes_apart_are_used() -> None:
    features, labels = digits(120)
    telling = 3 * np.eye(CLASSES)[labels.numpy()]
    both = with_others(features, telling)
    fitted = fit_regression(both, labels, CLASSES, seed=0, optional=CLASSES)
    whole = fit_regression(both, labels, CLASSES, seed=0)
    assert torch.equal(fitted.weights, whole.weights)
    assert fitted.weights[:, -CLASSES - 1 : -1].any()


def test_optional_columns_are_left_out_where_nothing_can_be_held_out() -> None:
    features, labels = digits(3)
    fitted = fit_regression(with_others(features, np.ones((3, 2))), labels, CLASSES, seed=0, optional=2)
    assert fitted.weights.shape == (CLASSES, features.shape[1] + 2)
    assert not fitted.weights[:, -3:-1].any()
