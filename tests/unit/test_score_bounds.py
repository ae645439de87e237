"""No score is outside the bounds of any kernel, and bounds are close where weights are small."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labelloop.scorer.v1.scorer_pb2 import Strategy
from numpy.typing import NDArray

from scorer_svc.models.model import Model
from scorer_svc.prefilter.integer_kernel import Kernel, logits, order
from scorer_svc.prefilter.layout import Layout
from scorer_svc.prefilter.linear_head import LinearSoftmax, linear_softmax
from scorer_svc.prefilter.prefilter import Screen, prefilter
from scorer_svc.prefilter.quantisation import quantised
from scorer_svc.prefilter.score_bounds import lowest_scores
from scorer_svc.strategies.uncertainty import BY_MODEL
from tests.examples import examples
from tests.unit.adversarial_models import KINDS, pool_of, weights_of
from tests.unit.kernels import INT8, INT8_SHIFTED, INT16, numpy_kernel
from trainer_svc.model.onnx_export import to_onnx

SHAPES = [(1, 2), (13, 2), (63, 11), (784, 10), (100, 100), (3_072, 3)]

shapes = st.sampled_from(SHAPES)
kinds = st.sampled_from(KINDS)


@cache
def scorer_of(kind: str, features: int, classes: int, seed: int) -> Model:
    return Model(to_onnx(weights_of(kind, features, classes, seed), "uint8"), "m")


def linear_of(model: Model) -> LinearSoftmax:
    linear = linear_softmax(model.data)
    assert linear is not None
    return linear


def kernels_in_numpy(features: int, classes: int) -> list[Kernel]:
    return [numpy_kernel(Layout(features, classes, each)) for each in (INT8, INT8_SHIFTED, INT16)]


@given(shape=shapes, kind=kinds, seed=st.integers(0, 5), strategy=st.sampled_from([*BY_MODEL]))
@settings(max_examples=examples(120), deadline=None)
def test_no_score_by_the_model_is_outside_its_bounds(
    shape: tuple[int, int], kind: str, seed: int, strategy: Strategy.ValueType
) -> None:
    assert_within_bounds(kernels_in_numpy, shape, kind, seed, strategy)


def assert_within_bounds(
    kernels: Callable[[int, int], list[Kernel]],
    shape: tuple[int, int],
    kind: str,
    seed: int,
    strategy: Strategy.ValueType,
) -> None:
    scorer, samples = scorer_of(kind, *shape, seed), pool_of(shape[0], 200, seed, weights_of(kind, *shape, seed))
    found = prefilter(linear_of(scorer), kernels)
    scores, every = BY_MODEL[strategy](scorer.probabilities(samples)), np.arange(len(samples))
    for screen in found.screens if found else []:
        assert (screen.lowest(samples, every, strategy) <= scores).all()
        assert (scores <= screen.highest(samples, every, strategy)).all()
        some = every[::3]
        assert np.array_equal(screen.lowest(samples, some, strategy), screen.lowest(samples, every, strategy)[some])


@given(shape=shapes, kind=kinds, seed=st.integers(0, 5), how=st.sampled_from([INT8, INT8_SHIFTED, INT16]))
@settings(max_examples=examples(100), deadline=None)
def test_differences_of_logits_are_no_further_off_than_the_error_of_their_sample(
    shape: tuple[int, int], kind: str, seed: int, how: object
) -> None:
    """Compared with float64, and with float32 summed in two orders."""
    features, classes = shape
    weights = weights_of(kind, features, classes, seed)
    kernel = numpy_kernel(Layout(features, classes, how))  # type: ignore[arg-type]
    linear = linear_of(scorer_of(kind, features, classes, seed))
    samples = pool_of(features, 100, seed, weights)
    found = logits(samples, np.arange(100), order(quantised(linear, kernel.layout.instructions.weight_max), kernel))
    for theirs in (
        samples.astype(np.float64) @ linear.kernel.astype(np.float64) + linear.bias,
        samples.astype(np.float32) @ linear.kernel + linear.bias,
        (samples.astype(np.float32)[:, :, None] * linear.kernel).cumsum(axis=1)[:, -1] + linear.bias
        if features < 800
        else samples.astype(np.float32)[:, ::-1] @ linear.kernel[::-1] + linear.bias,
    ):
        off = found[:-1].astype(np.float64) - theirs.T
        spread = np.ptp(off, axis=0)
        assert (spread <= found[-1] + 1e-12 * np.abs(theirs).max(axis=1)).all()


@pytest.mark.parametrize("error", [1e-3, 0.05, 0.5, 3.0])
@pytest.mark.parametrize("strategy", BY_MODEL)
def test_scores_of_logits_that_are_off_in_the_worst_direction_are_within_their_bounds(
    strategy: Strategy.ValueType, error: float
) -> None:
    """Each logit is moved by half of the error, up or down as it changes the score most; close to what is allowed."""
    chance = np.random.default_rng(1)
    logits_off = np.concatenate([chance.normal(0, size, (100, 400)) for size in (0.01, 1, 5, 20)], axis=1)
    logits_off[0, :400] = np.linspace(0, 9, 400)  # one class against 99 equal ones
    errors = np.full(logits_off.shape[1], error)
    widest = 0.0
    for sign in (1, -1):
        moved = logits_off + sign * error / 2 * np.sign(slopes(logits_off, strategy))
        scores = exact_scores(moved, strategy)
        assert (lowest_scores(logits_off, errors, strategy, 1e-9) <= scores).all()
        assert (scores <= lowest_scores(logits_off, -errors, strategy, -1e-9)).all()
        change = scores - exact_scores(logits_off, strategy)
        allowed = lowest_scores(logits_off, -sign * errors, strategy, 0) - exact_scores(logits_off, strategy)
        widest = max(widest, float((change / np.where(np.abs(allowed) > 1e-6, allowed, np.inf)).max()))
    assert widest > 0.75 or error > 1


def exact_scores(logits_: NDArray[np.float64], strategy: Strategy.ValueType) -> NDArray[np.float64]:
    return lowest_scores(logits_, np.zeros(logits_.shape[1]), strategy, 0)


def slopes(logits_: NDArray[np.float64], strategy: Strategy.ValueType) -> NDArray[np.float64]:
    """Return the derivatives of a score by each logit."""
    found = np.empty_like(logits_)
    for index in range(len(logits_)):
        step = np.zeros((len(logits_), 1))
        step[index] = 1e-6
        found[index] = exact_scores(logits_ + step, strategy) - exact_scores(logits_ - step, strategy)
    return found


def test_error_of_a_sample_is_reached_within_a_third() -> None:
    """A sample that is as bright as can be wherever one class is rounded up and the other down."""
    linear = linear_of(scorer_of("usual", 784, 2, 0))
    kernel = numpy_kernel(Layout(784, 2, INT8))
    model = quantised(linear, 127)
    remainder = linear.kernel.T - model.weights[:2] * model.scales[:2, None].astype(np.float64)
    sample = np.where(remainder[0] > remainder[1], 255, 0).astype(np.uint8)[None]
    found = logits(sample, np.arange(1), order(model, kernel))
    theirs = sample.astype(np.float64) @ linear.kernel.astype(np.float64) + linear.bias
    off = np.ptp(found[:-1].astype(np.float64) - theirs.T, axis=0)
    assert found[-1, 0] * 2 / 3 < off[0] <= found[-1, 0]


@pytest.mark.parametrize("strategy", BY_MODEL)
def test_bounds_of_a_model_of_small_weights_are_close(strategy: Strategy.ValueType) -> None:
    scorer = scorer_of("small", 784, 10, 0)
    samples = pool_of(784, 200, 0, weights_of("small", 784, 10, 0))
    found = prefilter(linear_of(scorer), kernels_in_numpy)
    assert found is not None
    screens: list[Screen] = found.screens
    assert [screen.weight_bits for screen in screens] == [8, 8, 16]
    widths = [np.subtract(*bounds_of(screen, samples, strategy)).max() for screen in screens]
    assert widths[0] < 0.5
    assert widths[2] < 0.005


def bounds_of(
    screen: Screen, samples: NDArray[np.uint8], strategy: Strategy.ValueType
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    every = np.arange(len(samples))
    return screen.highest(samples, every, strategy), screen.lowest(samples, every, strategy)
