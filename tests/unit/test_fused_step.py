"""Machine code takes the same steps as PyTorch, and PyTorch takes them where there is none."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest
import torch

from trainer_svc.model.adam_softmax import AdamState, TorchSteps, fit_published, start_state
from trainer_svc.model.fused_step import (
    CLASSES_MAX,
    LANES,
    TILE,
    FusedSteps,
    StepFunctions,
    Unavailable,
    is_right,
    step_functions,
)

SIZES = [
    *((1, 1), (2, 2), (LANES - 1, 3), (LANES, 4), (LANES + 1, 5), (2 * LANES - 1, 7), (2 * LANES, 10)),
    *((2 * LANES + 1, 12), (100, CLASSES_MAX), (784, 10)),
]
"""Features and classes, around the lengths of vector registers."""


@pytest.fixture(autouse=True)
def _needs_llvmlite() -> None:
    pytest.importorskip("llvmlite", reason="the extra llvm is not installed")


def blobs(count: int, features: int, classes: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Samples around a centre for each class, half of their values 0, with a last column of 1."""
    chance, centres = np.random.default_rng(seed), np.random.default_rng(7).random((classes, features))
    labels = chance.integers(0, classes, count)
    samples = np.maximum(centres[labels] + chance.normal(0, 0.4, (count, features)) - 0.5, 0)
    return torch.from_numpy(np.c_[samples, np.ones(count)].astype(np.float32)), torch.from_numpy(labels)


def both(count: int, features: int, classes: int) -> tuple[FusedSteps, TorchSteps]:
    training, stopping = blobs(count, features, classes, 1), blobs(count + 1, features, classes, 2)
    start = start_state(classes, features, scale=0.3, seed=3)
    moving = (start.weights.numpy(), start.first_moment.numpy(), start.second_moment.numpy())
    arrays = [(samples.numpy(), labels.numpy()) for samples, labels in (training, stopping)]
    return FusedSteps(arrays[0], arrays[1], moving), TorchSteps(*training, *stopping, start)


@pytest.mark.parametrize(("features", "classes"), SIZES)
@pytest.mark.parametrize("count", [1, 2, TILE - 1, TILE, TILE + 1, 3 * TILE + 5])
def test_each_step_moves_weights_and_moments_as_pytorch_does(features: int, classes: int, count: int) -> None:
    fused, reference = both(count, features, classes)
    for step in range(1, 6):
        for each in (fused, reference):
            each.take_step(0.1 / step)
        # Where a gradient is almost 0, its rounding decides the sign of Adam's first steps.
        firm = reference.moments()[1] > 1e-9
        np.testing.assert_allclose(fused.weights()[firm], reference.weights()[firm], rtol=1e-3, atol=1e-4)
        for found, expected in zip(fused.moments(), reference.moments(), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(("features", "classes"), SIZES)
def test_as_many_samples_are_counted_as_with_pytorch(features: int, classes: int) -> None:
    for count in range(1, 40):
        fused, reference = both(count, features, classes)
        assert fused.count_correct() == reference.count_correct()


def test_of_equal_logits_that_of_the_first_class_counts() -> None:
    samples, labels = blobs(50, 20, 6, 1)
    nothing = np.zeros((6, 21), np.float32)
    fused = FusedSteps((samples.numpy(), labels.numpy()), (samples.numpy(), labels.numpy()), (nothing,) * 3)
    assert fused.count_correct() == int((labels == 0).sum())


def test_a_fit_equals_one_by_pytorch() -> None:
    training, stopping = blobs(120, 50, 4, 1), blobs(200, 50, 4, 2)
    start = start_state(4, 50, scale=0, seed=0)
    fused = fit_published(*training, *stopping, start)
    reference = fit_published(*training, *stopping, start, no_code)
    assert (fused.why_torch, reference.why_torch) == ("", "this processor is unknown")
    assert fused.steps == reference.steps
    assert fused.stopping == reference.stopping
    torch.testing.assert_close(fused.state.weights, reference.state.weights, rtol=1e-3, atol=1e-4)


def test_the_same_fit_gives_the_same_bits() -> None:
    def fit() -> AdamState:
        return fit_published(*blobs(77, 50, 4, 1), *blobs(90, 50, 4, 2), start_state(4, 50, scale=0.1, seed=0)).state

    one, other = fit(), fit()
    assert torch.equal(one.weights, other.weights)
    assert torch.equal(one.second_moment, other.second_moment)


def test_saturated_probabilities_stay_finite() -> None:
    samples, labels = blobs(40, 30, 5, 1)
    weights = np.random.default_rng(0).normal(0, 1e4, (5, 31)).astype(np.float32)
    nothing, numbers = np.zeros_like(weights), (samples.numpy(), labels.numpy())
    fused = FusedSteps(numbers, numbers, (weights, nothing, nothing))
    fused.take_step(0.1)
    assert np.isfinite(fused.weights()).all()
    start = AdamState(torch.from_numpy(weights), torch.zeros(5, 31), torch.zeros(5, 31), 0)
    reference = TorchSteps(samples, labels, samples, labels, start)
    reference.take_step(0.1)
    np.testing.assert_allclose(fused.moments()[0], reference.moments()[0], rtol=1e-3, atol=1e-6)


def no_code(features: int, classes: int) -> StepFunctions:
    raise Unavailable("this processor is unknown")


def test_more_classes_than_a_register_has_lanes_are_left_to_pytorch() -> None:
    with pytest.raises(Unavailable, match="17 classes are more than 16"):
        step_functions(10, CLASSES_MAX + 1)


@pytest.mark.parametrize("broken", ["gradient", "adam", "correct"])
def test_code_that_computes_something_else_is_detected(broken: str) -> None:
    def nothing(*arguments: Any) -> Any:
        return -1

    functions = step_functions(40, 3)
    assert is_right(functions, 40, 3)
    assert not is_right(functions._replace(**{broken: nothing}), 40, 3)


def test_code_reads_no_byte_behind_the_last_sample() -> None:
    """The samples end where memory that must not be read begins."""
    libc, size = ctypes.CDLL(None, use_errno=True), 4096
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    start = libc.mmap(None, 2 * size, 3, 0x22, -1, 0)  # readable and writable, private and anonymous
    assert libc.mprotect(ctypes.c_void_p(start + size), size, 0) == 0
    page = np.ctypeslib.as_array((ctypes.c_float * (size // 4)).from_address(start))
    samples = page[-5 * 20 :].reshape(5, 20)
    samples[:] = 0.5
    labels, weights = np.arange(5), np.zeros((6, 20), np.float32)
    steps = FusedSteps((samples, labels), (samples, labels), (weights, weights, weights))
    steps.take_step(0.1)
    assert steps.count_correct() == 1
    libc.munmap(ctypes.c_void_p(start), 2 * size)
