"""Strategies that choose a batch together: what each is to find, and that nothing else decides."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labelloop.scorer.v1.scorer_pb2 import Strategy
from labelloop.wire.strategies import CHOOSE_TOGETHER, NEED_NO_MODEL
from numpy.typing import NDArray
from pyroaring import BitMap

from scorer_svc.batches.candidates import Candidates
from scorer_svc.batches.choosing import choose, power_scores
from scorer_svc.batches.spreading import k_center
from scorer_svc.ranking import Part, Question
from scorer_svc.together import rank_together

CHOSEN = sorted(CHOOSE_TOGETHER - {Strategy.STRATEGY_POWER_MARGIN})
GROUPS = 6


def grouped(count: int, seed: int = 0, size: int = 5) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Samples about six far-apart points, and the point of each."""
    rng = np.random.default_rng(seed)
    of = rng.integers(0, GROUPS, count)
    return (30 * np.eye(GROUPS, size + 1)[of] + rng.normal(0, 1, (count, size + 1))).astype(np.float32), of


def candidates(values: NDArray[np.float32], seed: int = 0, chosen: NDArray[np.float32] | None = None) -> Candidates:
    probabilities = np.random.default_rng(seed).dirichlet(np.ones(4), len(values)).astype(np.float32)
    before = values[:0] if chosen is None else chosen
    return Candidates(np.arange(len(values), dtype=np.uint32), values, probabilities, before)


@settings(deadline=None, max_examples=15)
@given(
    strategy=st.sampled_from(CHOSEN),
    count=st.integers(1, 30),
    alike=st.booleans(),
    more=st.integers(0, 40),
    seed=st.integers(0, 2**64 - 1),
)
def test_a_batch_holds_as_many_distinct_samples_as_were_asked_for(
    strategy: Strategy.ValueType, count: int, alike: bool, more: int, seed: int
) -> None:
    values = grouped(count + more)[0]
    given = candidates(np.zeros_like(values) if alike else values, chosen=values[:3])
    at, score = choose(strategy, given, count, seed)
    assert len({*at.tolist()}) == len(at) == len(score) == count
    again, _ = choose(strategy, given, count, seed)
    assert np.array_equal(at, again)


@pytest.mark.parametrize("strategy", sorted({*NEED_NO_MODEL} & {*CHOOSE_TOGETHER}))
def test_a_first_batch_has_one_of_each_group(strategy: Strategy.ValueType) -> None:
    values, of = grouped(300)
    at, _ = choose(strategy, candidates(values), GROUPS, 1)
    assert sorted(of[at]) == list(range(GROUPS))


@pytest.mark.parametrize("strategy", [Strategy.STRATEGY_TYPICLUST, Strategy.STRATEGY_K_CENTER])
def test_groups_that_have_labels_are_left_alone(strategy: Strategy.ValueType) -> None:
    values, of = grouped(300)
    known = [int(np.flatnonzero(of == group)[0]) for group in range(4)]
    free = np.setdiff1d(np.arange(300), known)
    at, _ = choose(strategy, candidates(values[free], chosen=values[known]), 2, 1)
    assert sorted(of[free][at]) == [4, 5]


def test_farthest_first_is_that_of_a_plain_search() -> None:
    values = np.random.default_rng(0).normal(0, 1, (60, 4)).astype(np.float32)
    at, score = k_center(candidates(values[10:], chosen=values[:10]), 8, 0)
    taken = [*values[:10]]
    for place, position in enumerate(at):
        apart = [min(float(np.linalg.norm(each - other)) for other in taken) for each in values[10:]]
        assert position == int(np.argmax(apart))
        assert score[place] == pytest.approx(-max(apart), rel=1e-3)
        taken.append(values[10:][position])


def test_batches_are_less_alike_than_the_smallest_margins() -> None:
    values, of = grouped(600)
    given = candidates(values)
    unsure = np.argsort(np.where(of == 0, given.margins / 10, given.margins))[:60]  # mostly of one group
    near = candidates(values[unsure])
    for strategy in (Strategy.STRATEGY_CLUSTERED_MARGIN, Strategy.STRATEGY_BADGE):
        at, _ = choose(strategy, near, GROUPS, 0)
        assert len({*of[unsure][at].tolist()}) >= 4


def test_power_margin_draws_by_margin_and_by_nothing_else() -> None:
    ids = np.arange(20_000, dtype=np.uint32)
    margins = np.where(ids % 2, 0.5, 0.0).astype(np.float32)
    first = np.argsort(power_scores(ids, margins, 3))[:300]
    assert np.mean(ids[first] % 2 == 0) == pytest.approx(2 / 3, abs=0.08)  # drawn with odds of 1 to a half
    assert np.array_equal(power_scores(ids[50:90], margins[50:90], 3), power_scores(ids, margins, 3)[50:90])


@pytest.mark.parametrize("strategy", sorted({*NEED_NO_MODEL} & {*CHOOSE_TOGETHER}))
def test_the_cut_of_a_pool_into_shards_changes_nothing(strategy: Strategy.ValueType) -> None:
    values = grouped(200)[0]
    question = Question(strategy, 7, BitMap([3, 150]), 5)
    whole = rank_together([Part(0, values)], question)
    cut = rank_together([Part(0, values[:60]), Part(60, values[60:])], question)
    assert np.array_equal(whole.sample_ids, cut.sample_ids)
    assert not {3, 150} & {*whole.sample_ids.tolist()}
    everything = rank_together([Part(0, values)], Question(strategy, 0, BitMap([3, 150]), 5))
    assert sorted(everything.sample_ids.tolist()) == [each for each in range(200) if each not in (3, 150)]
