"""Scales of charts, and the round values that their axes mark."""

from __future__ import annotations

import math

import numpy as np
import pytest
from labelloop_cli.reporting.svg.scales import (
    Scale,
    extent,
    multiples,
    outwards,
    padded,
    step_of,
    tick_texts,
)


def test_linear_scale_maps_ends_and_middle() -> None:
    scale = Scale(50, 150, 200, 0)
    assert [scale.at(value) for value in (50, 100, 150)] == [200, 100, 0]


def test_logarithmic_scale_gives_each_power_the_same_room() -> None:
    scale = Scale(1, 1_000, 0, 30, log=True)
    assert [scale.at(value) for value in (1, 10, 100, 1_000)] == pytest.approx([0, 10, 20, 30])


@pytest.mark.parametrize(
    ("low", "high", "most", "marked"),
    [
        (0, 1, 5, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (57.4, 88.6, 8, ["60", "65", "70", "75", "80", "85"]),
        (0, 4_000, 9, ["0", "500", "1,000", "1,500", "2,000", "2,500", "3,000", "3,500", "4,000"]),
        (-0.012, 0.031, 5, ["−0.01", "0.00", "0.01", "0.02", "0.03"]),
        (0.00012, 0.00031, 4, ["0.00015", "0.00020", "0.00025", "0.00030"]),
    ],
)
def test_ticks_are_round_and_have_as_many_decimals_as_they_need(
    low: float, high: float, most: int, marked: list[str]
) -> None:
    assert tick_texts(Scale(low, high, 0, 1).ticks(most)) == marked


def test_ticks_of_any_range_are_multiples_of_1_2_or_5_and_not_too_many() -> None:
    rng = np.random.default_rng(0)
    for _ in range(500):
        low = float(rng.normal() * 10.0 ** rng.integers(-6, 7))
        high = low + float(rng.random() + 0.01) * 10.0 ** int(rng.integers(-5, 7))
        most = int(rng.integers(3, 12))
        if high - low < 1e-7 * abs(low):
            continue  # floating-point numbers do not resolve it
        step = step_of(low, high, most)
        ticks = multiples(low, high, step)
        assert f"{step:.6e}"[0] in "125"
        assert math.isclose(float(f"{step:.0e}"), step)
        assert 1 <= len(ticks) <= most + 1
        assert all(low - step * 1e-6 <= each <= high + step * 1e-6 for each in ticks)
        assert np.diff(ticks) == pytest.approx(np.full(len(ticks) - 1, step), abs=1e-6 * step)
        assert len({*tick_texts(ticks)}) == len(ticks)


def test_counts_are_marked_at_integers_only() -> None:
    assert Scale(0, 2.4, 0, 1).ticks(10, whole=True) == [0, 1, 2]


def test_an_axis_that_ends_at_round_values_marks_both() -> None:
    step = step_of(0.48, 0.93, 3)
    low, high = outwards(0.48, 0.93, step)
    ticks = Scale(low, high, 0, 1, step=step).ticks(2)
    assert (ticks[0], ticks[-1]) == (low, high) == (0.4, 1.0)


@pytest.mark.parametrize(
    ("low", "high", "most", "marked"),
    [
        (9.0, 2_400, 8, ["10", "20", "50", "100", "200", "500", "1,000", "2,000"]),
        (0.3, 300, 7, ["0.3", "1", "3", "10", "30", "100", "300"]),
        (1, 1e12, 4, ["1", "10,000", "100,000,000", "1,000,000,000,000"]),
        (52, 58, 4, ["52", "54", "56", "58"]),
    ],
)
def test_logarithmic_ticks_are_as_dense_as_the_room_allows(
    low: float, high: float, most: int, marked: list[str]
) -> None:
    assert tick_texts(Scale(low, high, 0, 1, log=True).ticks(most), log=True) == marked


def test_ranges_without_values_or_of_one_value_have_some_width() -> None:
    assert extent([]) == (0, 1)
    assert extent([], log=True) == (1, 10)
    assert extent([0.0]) == (-1, 1)
    assert extent([80.0]) == (72, 88)
    assert extent([3.0], whole=True) == (2, 4)
    assert extent([5.0], log=True) == (2.5, 10)
    assert extent([2.0, 1.0, 4.0]) == (1, 4)


def test_padding_at_both_ends_is_a_share_of_the_range() -> None:
    assert padded(0, 100, 0.02) == (-2, 102)
    assert padded(1, 100, 0.5, log=True) == pytest.approx((0.1, 1_000))
