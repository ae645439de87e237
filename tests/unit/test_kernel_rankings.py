"""Rankings with each processor's instructions equal a scan with the model alone, bit for bit, for hard models too."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labelloop.scorer.v1.scorer_pb2 import Strategy

from scorer_svc.models.model import Model
from scorer_svc.pools.part import Part
from scorer_svc.prefilter.integer_kernel import Kernel
from scorer_svc.prefilter.kernel_check import is_right
from scorer_svc.prefilter.kernel_choice import PrefilterFactory
from scorer_svc.ranking.rank import Question, rank
from scorer_svc.strategies.uncertainty import BY_MODEL
from tests.examples import examples
from tests.processors import runnable
from tests.unit.adversarial_models import KINDS, pool_of, weights_of
from tests.unit.test_rank import assert_same, parts, plain
from tests.unit.test_score_bounds import assert_within_bounds
from trainer_svc.model.onnx_export import to_onnx

compiled = pytest.importorskip("scorer_svc.prefilter.machine_code", reason="the extra llvm is not installed").compiled

PATHS = ["SSE2", "AVX2", "AVX-VNNI", "AVX-512", "AVX-512 VNNI"]
SHAPES = [(5, 2), (63, 11), (257, 23), (784, 10), (3_072, 3), (20, 100)]

kinds = st.sampled_from(KINDS)
seeds = st.integers(0, 3)
strategies = st.sampled_from([*BY_MODEL])


@cache
def kernels(path: str, features: int, classes: int) -> list[Kernel]:
    found: list[Kernel] = compiled(features, classes, runnable(path))
    assert all(is_right(kernel) for kernel in found)
    return found


@cache
def scorer_of(path: str, kind: str, features: int, classes: int, seed: int) -> Model:
    factory = PrefilterFactory(lambda *shape: kernels(path, *shape), lambda: True)
    return Model(to_onnx(weights_of(kind, features, classes, seed), "uint8"), "m", factory)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("path", PATHS)
def test_rankings_by_each_processor_equal_a_scan(path: str, shape: tuple[int, int]) -> None:
    runnable(path)  # or skip

    @given(
        kind=kinds,
        seed=seeds,
        strategy=strategies,
        limit=st.sampled_from([1, 10, 60]),
        bounds=st.lists(st.integers(1, 1_199), max_size=2),
    )
    @settings(max_examples=examples(12), deadline=None)
    def check(kind: str, seed: int, strategy: Strategy.ValueType, limit: int, bounds: list[int]) -> None:
        samples = pool_of(shape[0], 1_200, seed, weights_of(kind, *shape, seed))
        question = Question(strategy, limit, model=scorer_of(path, kind, *shape, seed))
        expected = plain(samples, question)
        assert_same(rank([Part(0, samples)], question), expected)
        assert_same(rank(parts(samples, bounds), question), expected)

    check()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("path", PATHS)
def test_scores_are_within_the_bounds_of_each_processor(path: str, shape: tuple[int, int]) -> None:
    runnable(path)  # or skip

    @given(kind=kinds, seed=seeds, strategy=strategies)
    @settings(max_examples=examples(12), deadline=None)
    def check(kind: str, seed: int, strategy: Strategy.ValueType) -> None:
        assert_within_bounds(lambda *sizes: kernels(path, *sizes), shape, kind, seed, strategy)

    check()


@pytest.mark.parametrize("strategy", BY_MODEL)
def test_a_thousand_classes_are_ranked_by_the_model_alone(strategy: Strategy.ValueType) -> None:
    model = Model(to_onnx(weights_of("usual", 20, 1_000, 0), "uint8"), "m")
    assert model.prefilter is None
    samples = pool_of(20, 300, 0, weights_of("usual", 20, 1_000, 0))
    question = Question(strategy, 10, model=model)
    assert_same(rank([Part(0, samples)], question), plain(samples, question))


def test_saturated_models_are_ranked_by_id_among_equals() -> None:
    """Thousands of samples have the lowest possible score, of which those with the lowest ids come first."""
    weights = weights_of("huge", 63, 11, 0)
    samples = pool_of(63, 9_000, 0, weights)
    for strategy in (Strategy.STRATEGY_MOST_CONFIDENT, Strategy.STRATEGY_MARGIN):
        question = Question(strategy, 500, model=Model(to_onnx(weights, "uint8"), "m"))
        assert_same(rank(parts(samples, [100, 4_200]), question), plain(samples, question))
        assert np.array_equal(rank([Part(0, samples)], question).score, plain(samples, question).score)
