"""Agreement of annotators: Krippendorff's own example, a slow reference, and what is too little to tell."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from labelloop.oracle.v1.oracle_pb2 import Backlog
from labelloop_cli.operations.backlog import agreement_lines

from oracle_svc.domain.agreement import SHARED_MIN, agreement_of

# The reliability data of section C of Krippendorff (2011): four observers, twelve units, values missing.
EXAMPLE = [
    [1, 1, 1],
    [2, 2, 3, 2],
    [3, 3, 3, 3],
    [3, 3, 3, 3],
    [2, 2, 2, 2],
    [1, 2, 3, 4],
    [4, 4, 4, 4],
    [1, 1, 2, 1],
    [2, 2, 2, 2],
    [5, 5, 5],
    [1, 1],
    [3],
]


def slow_alpha(samples: list[list[int]]) -> float:
    """Count every ordered pair of results, within samples and over all, as the definition says."""
    shared = [labels for labels in samples if len(labels) > 1]
    values = [label for labels in shared for label in labels]
    observed = sum(
        (one != other) / (len(labels) - 1) for labels in shared for one, other in permutations(labels, 2)
    ) / len(values)
    chance = [one != other for one, other in permutations(values, 2)]
    return 1 - observed / (sum(chance) / len(chance))


def test_alpha_of_the_example_in_its_source() -> None:
    found = agreement_of(EXAMPLE)
    assert found.shared == 11
    assert found.alpha == pytest.approx(0.743, abs=5e-4)


@given(st.lists(st.lists(st.integers(0, 3), max_size=4), min_size=SHARED_MIN, max_size=30))
def test_alpha_equals_a_slow_reference(samples: list[list[int]]) -> None:
    found = agreement_of(samples)
    shared = [labels for labels in samples if len(labels) > 1]
    assert found.shared == len(shared)
    if len(shared) < SHARED_MIN or len({label for labels in shared for label in labels}) == 1:
        assert found.alpha is None
    else:
        assert found.alpha == pytest.approx(slow_alpha(samples))
        assert (found.alpha or 0) <= 1


def test_few_samples_or_one_class_tell_nothing() -> None:
    assert agreement_of([]).pairs is None
    assert agreement_of([[1], [2]]).pairs is None
    assert agreement_of([[1, 2]] * (SHARED_MIN - 1)).alpha is None
    one_class = agreement_of([[1, 1]] * 50)
    assert (one_class.pairs, one_class.alpha) == (1.0, None)


def test_agreement_by_chance_alone_is_no_agreement() -> None:
    samples = [[one, other] for one in (0, 0, 0, 1) for other in (0, 0, 0, 1)] * 10
    found = agreement_of(samples)
    assert found.pairs == pytest.approx(0.625)
    assert found.alpha == pytest.approx(0, abs=0.01)


def test_the_backlog_says_how_far_annotators_agree() -> None:
    few = Backlog(run_id="r", shared_samples=1, pair_agreement=0.5)
    assert agreement_lines(few) == ["r: 50% of pairs of answers agree, too few to tell how much is chance (1 sample)"]
    many = Backlog(run_id="r", shared_samples=40, pair_agreement=0.9, alpha=0.8, contradicted=2)
    agree, contradicted = agreement_lines(many)
    assert agree == "r: 90% of pairs of answers agree, alpha 0.80 (40 samples)"
    assert "2 samples; `labelloop label contradicted r` shows them" in contradicted
    assert agreement_lines(Backlog(run_id="r")) == []
