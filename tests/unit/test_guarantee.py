"""The guarantee that an audit gives for auto-labels."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from trainer_svc.domain.guarantee import (
    AuditResult,
    audit_size_needed,
    bound_of_the_rest,
    guarantee_fault,
    lower_bound,
)
from trainer_svc.domain.guarantee import certify as certify_the_rest

Values = NDArray[np.float32]


def certify(confidence: Values, correct: NDArray[np.bool_], *, target: float, level: float) -> AuditResult:
    """Certify by an audit of one sample in a thousand."""
    left = np.tile(confidence, 999)
    return certify_the_rest(confidence, correct, left, target=target, level=level)


@pytest.mark.parametrize(
    ("wrong", "audited", "left"), [(0, 299, 299), (0, 600, 3_000), (3, 600, 3_000), (0, 5, 1), (2, 9, 4)]
)
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_bound_of_the_rest_is_violated_as_seldom_as_stated(wrong: int, audited: int, left: int, level: float) -> None:
    bound = bound_of_the_rest(audited - wrong, audited, left, level)
    most = round((1 - bound) * left)
    assert bound == pytest.approx(1 - most / left)
    likely, unlikely = (stats.hypergeom.cdf(wrong, audited + left, wrong + each, audited) for each in (most, most + 1))
    assert likely > 1 - level or not most
    assert unlikely <= 1 - level or most == left


def test_bound_of_a_large_rest_equals_clopper_pearson() -> None:
    assert bound_of_the_rest(590, 600, 10_000_000, 0.95) == pytest.approx(lower_bound(590, 600, 0.95), abs=1e-5)
    assert bound_of_the_rest(5, 5, 0, 0.95) == 1


@pytest.mark.parametrize(("correct", "total"), [(0, 5), (1, 5), (5, 5), (299, 299), (394, 400), (990, 1_000)])
@pytest.mark.parametrize("level", [0.9, 0.95, 0.999])
def test_lower_bound_equals_clopper_pearson(correct: int, total: int, level: float) -> None:
    expected = stats.beta.ppf(1 - level, correct, total - correct + 1) if correct else 0.0
    assert lower_bound(correct, total, level) == pytest.approx(expected, abs=1e-9)


def test_smallest_audit_passes_only_without_a_mistake_and_a_smaller_one_never() -> None:
    assert audit_size_needed(0.99, 0.95, 1_000_000) == 299
    confidence = np.linspace(0.5, 1, 299).astype(np.float32)
    found = certify(confidence, np.ones(299, bool), target=0.99, level=0.95)
    assert (found.threshold, found.audited_above, found.correct_above) == (0.5, 299, 299)
    assert certify(confidence[1:], np.ones(298, bool), target=0.99, level=0.95).threshold is None
    assert certify(confidence, np.arange(299) > 0, target=0.99, level=0.95).threshold is None


def test_lowest_passing_threshold_is_found_despite_mistakes_below_it() -> None:
    confidence = np.linspace(0, 1, 1_000).astype(np.float32)
    found = certify(confidence, confidence > 0.5, target=0.99, level=0.95)
    assert found.threshold is not None
    assert found.threshold == pytest.approx(0.5, abs=0.04)
    assert found.lower_bound >= 0.99
    assert found.audited_above == int((confidence >= found.threshold).sum())


def test_samples_of_equal_confidence_are_certified_together() -> None:
    confidence = np.repeat(np.array([1.0, 0.6], np.float32), 300)
    correct = np.concatenate([np.ones(300, bool), np.zeros(300, bool)])
    found = certify(confidence, correct, target=0.99, level=0.95)
    assert (found.threshold, found.audited_above) == (1.0, 300)
    mixed = np.ones(600, bool)
    mixed[::7] = False
    assert certify(np.ones(600, np.float32), mixed, target=0.99, level=0.95).threshold is None


def test_order_of_the_audit_does_not_change_the_result() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.random(500).astype(np.float32).round(2)
    correct = rng.random(500) < 0.97 + 0.03 * confidence
    mixed = rng.permutation(500)
    assert certify(confidence, correct, target=0.9, level=0.95) == certify(
        confidence[mixed], correct[mixed], target=0.9, level=0.95
    )


def test_guarantee_holds_as_often_as_stated() -> None:
    """In pools of which about half can be auto-labelled and a good part is audited, the rest above the threshold meets
    the target in at least 95 of 100. Of 1,000 pools, no more may fail than the 99.9th percentile at a rate of 5 %."""
    rng = np.random.default_rng(3)
    failed = labelled = 0
    for _ in range(1_000):
        share = np.clip(rng.beta(3, 0.25, 700), 0.3, 1)
        confidence, correct = share.astype(np.float32), rng.random(700) < share
        audit = rng.permutation(700) < 200
        found = certify_the_rest(confidence[audit], correct[audit], confidence[~audit], target=0.95, level=0.95)
        if found.threshold is not None:
            above = ~audit & (confidence >= found.threshold)
            labelled += 1
            failed += bool(above.any()) and correct[above].mean() < 0.95
    assert labelled > 400
    assert failed <= stats.binom.ppf(0.999, 1_000, 0.05)


@pytest.mark.parametrize(
    ("target", "level", "audit", "candidates", "said"),
    [
        (1.0, 0.95, 400, 4_000, "between 0 and 1"),
        (0.99, 0.0, 400, 4_000, "between 0 and 1"),
        (math.nan, 0.95, 400, 4_000, "between 0 and 1"),
        (0.99, 0.95, 309, 4_000, "audit 310 at least"),
        (0.99, 0.95, 400, 400, "take all of the 400 samples that are left: audit "),
        (0.99, 0.95, 400, 100, "no audit of them can: it takes 299 samples at least"),
        (0.99, 0.95, 299, 299, "no audit of them can"),
        (0.99999, 0.95, 50_000, 1_000_000, "no audit of them can"),
        (0.99, 0.95, 310, 4_000, ""),
        (0.99, 0.95, 299, 1_000_000, ""),
    ],
)
def test_impossible_guarantees_are_refused_with_a_reason(
    target: float, level: float, audit: int, candidates: int, said: str
) -> None:
    fault = guarantee_fault(target, level, audit, candidates)
    assert said in fault if said else not fault


@settings(max_examples=100, deadline=None)
@given(st.floats(0.5, 0.999), st.floats(0.5, 0.99), st.integers(1, 2_000))
def test_an_audit_that_is_needed_leaves_some_candidates_and_is_enough(
    target: float, level: float, candidates: int
) -> None:
    needed = audit_size_needed(target, level, candidates)
    if needed is not None:
        assert needed < candidates
        assert not guarantee_fault(target, level, needed, candidates)
    else:
        assert guarantee_fault(target, level, candidates, candidates)
