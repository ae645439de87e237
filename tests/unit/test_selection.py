"""Strategies against their definitions, and the order of ties."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from labelloop.scorer.v1.scorer_pb2 import Strategy
from labelloop.wire.errors import InvalidInput
from numpy.typing import NDArray

from scorer_svc.model import Model
from scorer_svc.ranking import rank
from scorer_svc.selection import best_first, entropy, least_confidence, margin, most_confident, random_scores
from trainer_svc.onnx_export import to_onnx

logits = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 20), st.integers(2, 6)), elements=st.floats(-200, 200, width=32)
)


def softmax(values: NDArray[np.float32]) -> NDArray[np.float32]:
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


@given(logits)
def test_scores_are_what_they_say(values: NDArray[np.float32]) -> None:
    probabilities = softmax(values)
    for row, *scores in zip(
        probabilities,
        least_confidence(probabilities),
        margin(probabilities),
        entropy(probabilities),
        most_confident(probabilities),
        strict=True,
    ):
        first, second = sorted(row, reverse=True)[:2]
        shannon = sum(p * math.log(p) for p in map(float, row) if p > 0)
        assert scores == pytest.approx([first, first - second, shannon, -first], abs=1e-5)


@given(hnp.arrays(np.float32, st.integers(0, 50), elements=st.sampled_from([0.0, 0.5, 0.75, 1.0])), st.integers(0, 60))
def test_the_best_come_first_and_ties_by_id(scores: NDArray[np.float32], limit: int) -> None:
    ids = np.arange(len(scores), dtype=np.uint32)[::-1].copy()
    expected = sorted(range(len(scores)), key=lambda i: (scores[i], ids[i]))
    assert list(best_first(ids, scores, limit)) == expected[: limit or None]


def test_random_scores_depend_on_seed_and_id_alone() -> None:
    ids = np.arange(10_000, dtype=np.uint32)
    scores = random_scores(ids, 1)
    assert np.array_equal(random_scores(ids[5_000:], 1), scores[5_000:])
    assert not np.array_equal(random_scores(ids, 2), scores)
    assert 0 <= scores.min() < 0.01 < 0.99 < scores.max() < 1
    assert np.abs(np.histogram(scores, 10)[0] - 1_000).max() < 150
    assert abs(np.corrcoef(scores, random_scores(ids, 2))[0, 1]) < 0.05


def model() -> Model:
    weights = np.random.default_rng(0).normal(0, 2, (3, 5)).astype(np.float32)
    return Model(to_onnx(weights, "uint8"), "m")


def test_a_samples_probabilities_do_not_depend_on_its_neighbours() -> None:
    samples = np.random.default_rng(1).integers(0, 255, (2_500, 4)).astype(np.uint8)
    whole = model().probabilities(samples)
    assert np.array_equal(model().probabilities(samples[:1]), whole[:1])
    assert np.array_equal(model().probabilities(samples[1_000:1_700]), whole[1_000:1_700])


def test_a_ranking_leaves_out_what_is_not_free_and_says_what_the_model_thinks() -> None:
    samples = np.random.default_rng(1).integers(0, 255, (40, 4)).astype(np.uint8)
    free = np.array([3, 5, 8, 13, 21], np.uint32)
    ranking = rank(samples, free, Strategy.STRATEGY_LEAST_CONFIDENCE, 3, 0, model())
    probabilities = model().probabilities(samples)
    expected = sorted(free, key=lambda i: (probabilities[i].max(), i))[:3]
    assert list(ranking.sample_ids) == expected
    assert list(ranking.predicted) == [probabilities[i].argmax() for i in expected]
    assert list(ranking.confidence) == list(ranking.score) == [probabilities[i].max() for i in expected]


@pytest.mark.parametrize("strategy", [Strategy.STRATEGY_MARGIN, Strategy.STRATEGY_UNSPECIFIED])
def test_a_strategy_that_cannot_be_is_refused(strategy: Strategy.ValueType) -> None:
    samples, free = np.zeros((4, 4), np.uint8), np.arange(4, dtype=np.uint32)
    with pytest.raises(InvalidInput):
        rank(samples, free, strategy, 2, 0, None)


def test_a_model_for_other_samples_is_refused() -> None:
    samples, free = np.zeros((4, 7), np.uint8), np.arange(4, dtype=np.uint32)
    with pytest.raises(InvalidInput, match="7"):
        rank(samples, free, Strategy.STRATEGY_MARGIN, 2, 0, model())
