"""Standardised features: what the graph makes of numbers, outliers, missing values and categories."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from labelloop.domain.value_scale import is_on_one_scale
from labelloop.events.v1.events_pb2 import SampleKind, SampleLayout, TableColumn
from numpy.typing import NDArray

from scorer_svc.features.standardized import REACH, learn_standardized
from scorer_svc.models.graph import Graph
from scorer_svc.models.validation import FEATURES, validated

VECTOR = SampleLayout(kind=SampleKind.SAMPLE_KIND_VECTOR)
NAN = np.float32(np.nan)


def table(*categories: int) -> SampleLayout:
    """A table whose columns have so many categories; 0 for numbers."""
    return SampleLayout(
        kind=SampleKind.SAMPLE_KIND_ROW,
        columns=[TableColumn(name=f"c{i}", categories=map(str, range(count))) for i, count in enumerate(categories)],
    )


def graph_of(samples: NDArray[Any], layout: SampleLayout = VECTOR) -> Graph:
    data = learn_standardized(samples, layout)
    onnx.checker.check_model(validated(data, FEATURES).model)
    assert learn_standardized(samples, layout) == data
    return Graph(data, "g", field="f")


def spread(count: int = 500) -> NDArray[np.float32]:
    """Columns of very different units: normal, a time stamp, and a skewed one of tiny values."""
    rng = np.random.default_rng(0)
    stamps = 1.6e9 + rng.integers(0, 10**8, count)
    return np.column_stack([rng.normal(7, 3, count), stamps, rng.lognormal(0, 1, count) * 1e-6]).astype(np.float32)


def test_columns_of_any_unit_get_mean_zero_and_variance_one() -> None:
    features = graph_of(spread()).answers(spread())
    np.testing.assert_allclose(features.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(features.std(axis=0), 1, atol=1e-3)
    assert np.corrcoef(features[:, 1], spread()[:, 1])[0, 1] > 0.999


def test_a_column_without_outliers_is_only_shifted_and_scaled() -> None:
    samples = np.random.default_rng(0).uniform(3, 5, (300, 2)).astype(np.float32)
    expected = (samples - samples.mean(axis=0)) / samples.std(axis=0)
    np.testing.assert_allclose(graph_of(samples).answers(samples), expected, atol=1e-4)


def test_a_wild_value_neither_flattens_the_others_nor_dominates() -> None:
    samples = spread()
    clean = graph_of(samples).answers(samples)
    samples[3, 0] = 1e15
    features = graph_of(samples).answers(samples)
    np.testing.assert_allclose(features[4:], clean[4:], atol=0.1)
    assert REACH * 0.8 < features[3, 0] < REACH * 1.2


def test_constant_columns_become_zero_whatever_is_posted_later() -> None:
    samples = np.column_stack([spread()[:, 0], np.full(500, 1e9), np.full(500, 1e-35)]).astype(np.float32)
    posted = np.array([[7, 0, 0], [3e38, 3e38, -3e38]], np.float32)
    features = graph_of(samples).answers(posted)
    assert np.isfinite(features).all()
    assert not features[:, 1:].any()


def test_values_that_are_mostly_equal_are_scaled_by_their_deviation() -> None:
    samples = (np.arange(1_000) % 10 == 0).astype(np.uint8)[:, None] * 5
    features = graph_of(samples).answers(samples)
    np.testing.assert_allclose([features.mean(), features.std()], [0, 1], atol=1e-4)


def test_a_wild_value_among_mostly_equal_ones_does_not_hide_the_rest() -> None:
    samples = (np.arange(1_000) % 10 == 0).astype(np.float32)[:, None]
    samples[5] = 1e12
    features = graph_of(samples).answers(samples)
    assert features[10, 0] - features[1, 0] > 1


def test_missing_numbers_become_the_median_and_are_indicated() -> None:
    samples = spread()[:, :2].copy()
    samples[::4, 0] = np.nan
    graph = graph_of(samples, table(0, 0))
    assert (graph.answer_count, graph.takes_missing) == (3, True)
    features = graph.answers(samples)
    assert np.isfinite(features).all()
    middle = graph.answers(np.array([[np.nanmedian(samples[:, 0]), 1.6e9]], np.float32))[0, 0]
    np.testing.assert_allclose(features[::4, 0], middle, atol=1e-5)
    np.testing.assert_allclose(features[:, 2], np.isnan(samples[:, 0]) - 0.25, atol=1e-6)
    complete = graph.answers(np.array([[7, NAN]], np.float32))
    assert np.isfinite(complete).all(), "a column that was complete in the pool may lack values later"


def test_categories_become_indicators_and_unknown_ones_none() -> None:
    samples = np.column_stack([np.arange(60) % 3, spread(60)[:, 1], np.arange(60) % 2]).astype(np.float32)
    graph = graph_of(samples, table(3, 0, 2))
    features = graph.answers(samples)
    assert features.shape == (60, 6)
    assert np.array_equal(features[:, 1:4], np.eye(3)[np.arange(60) % 3])
    assert np.array_equal(features[:, 4:], np.eye(2)[np.arange(60) % 2])
    odd = graph.answers(np.array([[3, 1.6e9, NAN], [NAN, 1e15, 0.5], [-1, -1e15, 1]], np.float32))
    assert odd[:, 1:].tolist() == [[0, 0, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 1]]


def test_a_table_of_categories_alone_has_only_indicators() -> None:
    samples = (np.arange(20) % 4).astype(np.float32)[:, None]
    assert np.array_equal(graph_of(samples, table(4)).answers(samples), np.eye(4)[np.arange(20) % 4])


def test_a_column_of_which_nothing_is_known_is_left_at_zero() -> None:
    samples = np.column_stack([spread()[:, 0], np.full(500, np.nan)]).astype(np.float32)
    features = graph_of(samples, table(0, 0)).answers(samples)
    assert features.shape == (500, 2)
    assert not features[:, 1].any()


@pytest.mark.parametrize(
    ("samples", "layout", "said"),
    [
        (np.ones((20, 3), np.float32), VECTOR, "alike"),
        (np.array(["a", "b"], object), SampleLayout(kind=SampleKind.SAMPLE_KIND_TEXT), "texts"),
        (np.zeros((20, 500), np.float32), table(*[200] * 500), "too many"),
    ],
)
def test_unusable_samples_are_refused_with_a_reason(samples: NDArray[Any], layout: SampleLayout, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        learn_standardized(samples, layout)


@pytest.mark.parametrize("scales", [(1, 1e6), (1, 1e6, 1e6), (1e-4, 1, 1, 1)])
def test_few_values_are_of_one_scale_only_if_all_vary_alike(scales: tuple[float, ...]) -> None:
    values = np.random.default_rng(0).normal(size=(200, len(scales)))
    assert is_on_one_scale(values)
    assert not is_on_one_scale(values * np.array(scales))
