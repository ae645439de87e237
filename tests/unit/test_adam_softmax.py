"""The published fit, its training state and its ONNX model."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from labelloop.domain.statistics import wilson_interval

from trainer_svc.model.adam_softmax import (
    AdamState,
    count_correct,
    fit_published,
    start_state,
    with_bias,
)
from trainer_svc.model.fused_step import StepFunctions, Unavailable
from trainer_svc.model.onnx_export import to_onnx
from trainer_svc.model.training_state import from_bytes, to_bytes


def no_code(features: int, classes: int) -> StepFunctions:
    raise Unavailable("float64")


def digits(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Noisy images of four classes, as features with bias, and their labels."""
    rng = np.random.default_rng(seed)
    kinds = np.random.default_rng(99).integers(0, 255, (4, 5, 5))
    labels = rng.integers(0, 4, count)
    samples = np.clip(kinds[labels] + rng.normal(0, 90, (count, 5, 5)), 0, 255).astype(np.uint8)
    return with_bias(samples), torch.from_numpy(labels)


def autograd_published(
    features: torch.Tensor, labels: torch.Tensor, stop: tuple[torch.Tensor, torch.Tensor], start: AdamState
) -> tuple[torch.Tensor, torch.Tensor, int, int]:
    """The article's fit by autograd: best weights, first moment, step, correct count of the best."""
    weights, first, second = start.weights.clone(), start.first_moment.clone(), start.second_moment.clone()
    step, best, kept, waited = start.step, -1, weights, 0
    while waited < 10:
        leaf = weights.clone().requires_grad_()
        torch.nn.functional.cross_entropy(features @ leaf.T, labels).backward()  # type: ignore[no-untyped-call]
        assert leaf.grad is not None
        step += 1
        first = 0.9 * first + 0.1 * leaf.grad
        second = 0.999 * second + 0.001 * leaf.grad**2
        weights = weights - 0.1 * (1 - 0.999**step) ** 0.5 / (1 - 0.9**step) * first / (second.sqrt() + 1e-8)
        correct = int(((stop[0] @ weights.T).argmax(1) == stop[1]).sum())
        waited += 1
        if correct > best:
            best, kept, waited = correct, weights, 0
    return kept, first, step, best


def test_the_published_fit_equals_plain_autograd() -> None:
    features, labels = digits(60)
    stop_features, stop_labels = digits(50, seed=1)
    features, stop = features.double(), (stop_features.double(), stop_labels)
    zeros = torch.zeros(4, 26, dtype=torch.float64)
    start = AdamState(zeros, zeros, zeros, 0)
    fitted = fit_published(features, labels, *stop, start, no_code)
    assert fitted.why_torch == "float64"
    weights, first, step, best = autograd_published(features, labels, stop, start)
    assert fitted.state.step == fitted.steps == step
    assert fitted.stopping.correct == best
    torch.testing.assert_close(fitted.state.weights, weights)
    torch.testing.assert_close(fitted.state.first_moment, first)


def test_the_best_weights_are_kept_and_adams_steps_continue() -> None:
    features, labels = digits(60)
    stop = digits(50, seed=1)
    fitted = fit_published(features, labels, *stop, start_state(4, 25, scale=0, seed=0))
    again = fit_published(features, labels, *stop, fitted.state)
    assert count_correct(fitted.state.weights, *stop) == fitted.stopping
    assert again.state.step == fitted.steps + again.steps


def test_the_training_state_survives_serialization() -> None:
    features, labels = digits(30)
    state = fit_published(features, labels, *digits(30, seed=1), start_state(4, 25, scale=0, seed=0)).state
    back = from_bytes(to_bytes(state))
    assert back.step == state.step
    for name in ("weights", "first_moment", "second_moment"):
        assert torch.equal(getattr(back, name), getattr(state, name))


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_the_onnx_model_gives_the_same_probabilities_as_torch(dtype: str) -> None:
    rng = np.random.default_rng(1)
    samples = rng.integers(0, 255, (50, 25)).astype(dtype)
    weights = rng.normal(0, 0.3, (4, 26)).astype(np.float32)
    session = onnxruntime.InferenceSession(to_onnx(weights, dtype))
    answer = session.run(None, {"samples": samples})[0]
    expected = torch.softmax(with_bias(samples) @ torch.from_numpy(weights).T, 1).numpy()
    np.testing.assert_allclose(answer, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),
    [(369, 400, 0.8921, 0.9448), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (8989, 10000, 0.8928, 0.9047)],
)
def test_wilson_intervals_have_known_values(correct: int, total: int, low: float, high: float) -> None:
    assert wilson_interval(correct, total) == pytest.approx((low, high), abs=5e-4)
