"""Learn how to standardise values from unlabelled samples.

Columns of a table differ in scale by chance of their unit, and a linear model with one penalty sees little but the
largest. A time stamp hides all others. Each column is brought to variance 1 here. Median and quartiles come first,
because a few outliers would decide mean and deviation, and what lies beyond four deviations counts as that much. Where
quartiles are equal, because most values are, the 5th and 95th percentile take their place, and else the deviation.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from labelloop.domain.abandonment import wanted
from labelloop.events.v1.events_pb2 import SampleKind, SampleLayout
from numpy.typing import NDArray

from scorer_svc.features.standardized_onnx import Columns, standardized_graph

REACH = 4.0
PICKED_MAX = 10_000_000  # values of a matrix that picks columns: 40 MB in the graph
_QUARTILES_APART, _TWENTIETHS_APART = 1.349, 3.290  # standard deviations, if values are normally distributed
_ROUNDING = 1e-6  # of a column's quartiles: less variation is none
_TINY = 1e-30  # the same, whatever the values are
_COLUMNS_AT_ONCE = 100

Values = NDArray[np.float64]


def learn_standardized(samples: NDArray[Any], layout: SampleLayout) -> bytes:
    """Learn the scale of each value; return the ONNX bytes of the graph from flat samples to float32 features.

    Args:
        samples: ``[n, *shape]``, uint8 or float32. NaN is a missing value.
        layout: which columns hold categories.

    Raises:
        ValueError: The samples are texts, are all alike, or have too many categories.
    """
    if layout.kind == SampleKind.SAMPLE_KIND_TEXT:
        raise ValueError("texts have no values to standardise")
    flat = samples.reshape(len(samples), -1)
    of_table = layout.kind == SampleKind.SAMPLE_KIND_ROW
    categories = tuple((place, len(each.categories)) for place, each in enumerate(layout.columns) if each.categories)
    numbers = np.setdiff1d(np.arange(flat.shape[1]), [place for place, _ in categories])
    columns = _columns(flat, numbers, categories)
    if not columns.categories and not columns.rescale.any():
        raise ValueError("all of its samples are alike")
    if of_table and flat.shape[1] * columns.feature_count > PICKED_MAX:
        raise ValueError(f"{flat.shape[1]} columns with {columns.feature_count} numbers and categories are too many")
    return standardized_graph(columns, flat.shape[1], samples.dtype.name, may_lack=of_table)


def _columns(flat: NDArray[Any], numbers: NDArray[np.intp], categories: tuple[tuple[int, int], ...]) -> Columns:
    starts = range(0, len(numbers), _COLUMNS_AT_ONCE)
    parts = [
        _scaling(flat[:, numbers[start : start + _COLUMNS_AT_ONCE]].astype(np.float64)) for start in wanted(starts)
    ]
    middle, gain, mean, rescale = (
        np.concatenate([part[i] for part in parts] or [np.zeros(0)]).astype(np.float32) for i in range(4)
    )
    share = np.isnan(flat[:, numbers]).mean(axis=0) if flat.dtype != np.uint8 else np.zeros(len(numbers))
    incomplete = (share > 0) & (share < 1)
    return Columns(
        numbers=numbers,
        middle=middle,
        gain=gain,
        mean=mean,
        rescale=rescale,
        reach=REACH,
        incomplete=numbers[incomplete],
        missing_share=share[incomplete].astype(np.float32),
        categories=categories,
    )


def _scaling(values: Values) -> tuple[Values, Values, Values, Values]:
    """Return middle, gain, mean and rescale of the columns of ``values`` ``[n, columns]``; NaN is missing."""
    missing = np.isnan(values)
    values[:, missing.all(axis=0)] = 0
    quantile, deviation = (np.nanpercentile, np.nanstd) if missing.any() else (np.percentile, np.std)
    lowest, low, middle, high, highest = quantile(values, [5, 25, 50, 75, 95], axis=0)
    middle = middle.astype(np.float32).astype(np.float64)  # as the graph subtracts it
    floor = np.maximum(_ROUNDING * np.maximum(np.abs(low), np.abs(high)), _TINY)
    spread = deviation(values, axis=0)
    for outer, normally_apart in ((highest - lowest, _TWENTIETHS_APART), (high - low, _QUARTILES_APART)):
        spread = np.where(outer > floor, outer / normally_apart, spread)
    gain = _inverse(spread, floor)
    within = np.clip(np.where(np.isnan(values), 0, values - middle) * gain, -REACH, REACH)
    return middle, gain, within.mean(axis=0), _inverse(within.std(axis=0), np.full(len(gain), _ROUNDING))


def _inverse(spread: Values, floor: Values) -> Values:
    """Return what to multiply by; 0 where a column does not vary."""
    return np.where(spread > floor, 1 / np.maximum(spread, _TINY), 0)
