"""Uncertainty strategies: their definitions, random scores, and the order with ties and NaN."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from scorer_svc.strategies.uncertainty import (
    best_first,
    entropy,
    least_confidence,
    margin,
    most_confident,
    random_scores,
)

logits = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 20), st.integers(2, 6)), elements=st.floats(-200, 200, width=32)
)


def softmax(values: NDArray[np.float32]) -> NDArray[np.float32]:
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


@given(logits)
def test_scores_match_their_definitions(values: NDArray[np.float32]) -> None:
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
def test_the_best_come_first_and_ties_are_broken_by_id(scores: NDArray[np.float32], limit: int) -> None:
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


def test_nan_scores_come_last() -> None:
    ids = np.arange(5, dtype=np.uint32)
    assert list(best_first(ids, np.array([np.nan, 2, np.nan, 1, np.nan], np.float32), 4)) == [3, 1, 0, 2]
