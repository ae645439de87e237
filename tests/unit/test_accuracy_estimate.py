"""What is known of a model's accuracy, and with how many digits it is said."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from labelloop.domain.accuracy_estimate import accuracy_estimate
from labelloop.domain.proportion import RELIABLE_MIN, Proportion, rounded_down
from labelloop.domain.statistics import exact_interval, wilson_interval
from labelloop.events.v1.events_pb2 import Accuracy

NOTHING = Accuracy()
COUNTS = st.integers(1, 3_000).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total)))


def tail(least: int, total: int, share: float) -> float:
    """The probability of ``least`` or more right of ``total``."""
    return sum(comb(total, each) * share**each * (1 - share) ** (total - each) for each in range(least, total + 1))


@pytest.mark.parametrize("total", [1, 2, 4, 12, 29, 30, 61])
def test_the_interval_ends_where_the_counts_become_unlikely(total: int) -> None:
    for correct in range(total + 1):
        low, high = exact_interval(correct, total)
        assert low == 0 if not correct else tail(correct, total, low) == pytest.approx(0.025, abs=1e-6)
        assert high == 1 if correct == total else 1 - tail(correct + 1, total, high) == pytest.approx(0.025, abs=1e-6)


@pytest.mark.parametrize("total", [1, 3, 10, 29, 30, 60])
def test_the_interval_covers_every_truth_at_the_stated_rate(total: int) -> None:
    for truth in np.linspace(0.005, 0.995, 100):
        ends = [exact_interval(correct, total) for correct in range(total + 1)]
        covered = [correct for correct, (low, high) in enumerate(ends) if low <= truth <= high]
        rate = sum(comb(total, each) * truth**each * (1 - truth) ** (total - each) for each in covered)
        assert rate >= 0.95


@pytest.mark.parametrize(("truth", "total"), [(0.918, 4), (0.918, 40), (0.99, 400), (0.7, 1_000), (0.5, 10_000)])
def test_the_printed_interval_covers_the_truth_in_simulated_runs(truth: float, total: int) -> None:
    drawn = np.random.default_rng(3).binomial(total, truth, 2_000)
    ends = {
        correct: Proportion(correct, total).interval.removesuffix(" %").split(" to ") for correct in {*drawn.tolist()}
    }
    covered = [float(ends[correct][0]) <= 100 * truth <= float(ends[correct][1]) for correct in drawn.tolist()]
    assert np.mean(covered) >= 0.94


@given(COUNTS)
def test_a_share_has_no_more_digits_than_its_interval_justifies(counts: tuple[int, int]) -> None:
    share = Proportion(*counts)
    low, high = (float(each) / 100 for each in share.interval.removesuffix(" %").split(" to "))
    assert low <= share.low + 1e-9
    assert share.high - 1e-9 <= high
    if share.value is None:
        assert share.total < RELIABLE_MIN
        assert share.headline.startswith("between ")
        assert "." not in share.headline
        return
    shown = float(share.headline.removesuffix(" %"))
    assert low <= shown / 100 <= high
    assert (shown == 100) == (share.correct == share.total)
    assert (shown == 0) == (share.correct == 0)
    assert 10.0**-share.digits <= max(1.0, 50 * (share.high - share.low))


@given(COUNTS)
def test_the_interval_contains_the_share_and_resembles_wilsons(counts: tuple[int, int]) -> None:
    low, high = exact_interval(*counts)
    assert 0 <= low <= counts[0] / counts[1] <= high <= 1
    assert np.abs(np.array(wilson_interval(*counts)) - (low, high)).max() <= 3 / counts[1]


@pytest.mark.parametrize(
    ("correct", "total", "headline", "short"),
    [
        (4, 4, "between 39 % and 100 %", "39–100 %"),
        (0, 1, "between 0 % and 98 %", "0–98 %"),
        (29, 29, "between 88 % and 100 %", "88–100 %"),
        (29, 30, "97 %", "97 %"),
        (199, 200, "99 %", "99 %"),
        (912, 1_000, "91 %", "91 %"),
        (9_180, 10_000, "91.8 %", "91.8 %"),
        (9_999, 10_000, "99.99 %", "99.99 %"),
        (10_000, 10_000, "100.00 %", "100.00 %"),
    ],
)
def test_shares_are_printed(correct: int, total: int, headline: str, short: str) -> None:
    share = Proportion(correct, total)
    assert (share.headline, share.short) == (headline, short)


def test_a_lower_bound_is_rounded_down() -> None:
    assert (rounded_down(0.9899, 1), rounded_down(0.9, 2), rounded_down(0.29, 0)) == ("98.9", "90.00", "29")


def counts(correct: int, total: int, most_frequent: int = 0) -> Accuracy:
    return Accuracy(correct=correct, total=total, most_frequent=most_frequent)


@pytest.mark.parametrize(
    ("evaluation", "control", "stopping", "published", "said"),
    [
        (
            *(counts(9_180, 10_000), counts(4, 4), counts(80, 100), False),
            "accuracy (evaluation set, n = 10,000) 91.8 %, 95 % interval 91.2 to 92.4 %",
        ),
        (NOTHING, counts(4, 4), counts(80, 100), False, "accuracy (4 control samples) between 39 % and 100 %"),
        (NOTHING, counts(1, 1), NOTHING, False, "accuracy (1 control sample) between 2 % and 100 %"),
        (
            *(NOTHING, counts(37, 40), counts(80, 100), False),
            "accuracy (40 control samples) 92 %, 95 % interval 79 to 99 %",
        ),
        (NOTHING, NOTHING, counts(80, 100), False, None),
        (
            *(NOTHING, NOTHING, counts(360, 400), True),
            "accuracy (stopping set, n = 400) 90 %, 95 % interval 86 to 93 %",
        ),
        (NOTHING, NOTHING, NOTHING, True, None),
        (NOTHING, counts(5, 4), NOTHING, False, None),
    ],
)
def test_the_best_estimate_that_the_counts_allow_is_said(
    evaluation: Accuracy, control: Accuracy, stopping: Accuracy, said: str | None, *, published: bool
) -> None:
    found = accuracy_estimate(evaluation, control, stopping, published=published, class_count=3)
    assert (found.text if found else None) == said


def test_guessing_stands_beside_an_estimate_on_imbalanced_classes() -> None:
    found = accuracy_estimate(counts(9_988, 10_000, 9_886), NOTHING, NOTHING, published=False, class_count=2)
    assert found is not None
    assert found.text == (
        "accuracy (evaluation set, n = 10,000) 99.88 % (98.86 % by guessing the most frequent class), "
        "95 % interval 99.79 to 99.94 %"
    )


@pytest.mark.parametrize(
    ("most_frequent", "total", "beside"),
    [
        (1, 1, ""),
        (4, 4, ""),
        (20, 20, " (between 83 % and 100 % by guessing the most frequent class)"),
        (60, 100, " (60 % by guessing the most frequent class)"),
        (40, 100, ""),
        (0, 100, ""),
    ],
)
def test_imbalance_of_few_samples_may_be_chance(most_frequent: int, total: int, beside: str) -> None:
    found = accuracy_estimate(NOTHING, counts(total, total, most_frequent), NOTHING, published=False, class_count=3)
    assert found is not None
    assert found.beside == beside
