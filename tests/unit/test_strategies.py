"""Joint strategies, against slow references and in edge cases."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labelloop.domain.strategies import CHOOSE_TOGETHER, NEED_NO_MODEL
from labelloop.scorer.v1.scorer_pb2 import Strategy
from numpy.typing import NDArray
from pyroaring import BitMap

from scorer_svc.pools.part import Part
from scorer_svc.ranking.batch import rank_together
from scorer_svc.ranking.rank import Question
from scorer_svc.strategies.candidates import Candidates
from scorer_svc.strategies.distances import Euclidean, Gradients
from scorer_svc.strategies.kmeans_plus_plus import farthest_first, k_means_plus_plus
from scorer_svc.strategies.registry import choose, density, power_scores

STRATEGIES = sorted(CHOOSE_TOGETHER - {Strategy.STRATEGY_POWER_MARGIN})
every_strategy = pytest.mark.parametrize("strategy", STRATEGIES, ids=Strategy.Name)


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


def some(size: int, width: int = 6, chosen: int = 0, seed: int = 0) -> Candidates:
    rng = np.random.default_rng(seed)
    return Candidates(
        ids=np.arange(size, dtype=np.uint32),
        values=rng.random((size, width), np.float32),
        probabilities=softmax(3 * rng.standard_normal((size, 4), np.float32)),
        chosen=rng.random((chosen, width), np.float32),
    )


@every_strategy
@settings(max_examples=15, deadline=None)
@given(st.data())
def test_a_batch_has_distinct_samples_in_ascending_order_of_score(
    strategy: Strategy.ValueType, data: st.DataObject
) -> None:
    size, width = data.draw(st.integers(1, 30)), data.draw(st.integers(1, 5))
    candidates = some(size, width, chosen=data.draw(st.integers(0, 5)), seed=data.draw(st.integers(0, 99)))
    steps = data.draw(st.sampled_from([0, 1, 2, 100]))  # 0 makes all samples equal, 1 and 2 many
    alike = np.round(candidates.values * steps) + data.draw(st.sampled_from([0, 1000]))
    count = data.draw(st.integers(1, size))
    positions, scores = choose(
        strategy, replace(candidates, values=alike), count, seed=data.draw(st.integers(0, 2**64 - 1))
    )
    assert len(set(positions.tolist())) == len(positions) == len(scores) == count
    assert set(positions.tolist()) <= set(range(size))
    assert positions.dtype == np.intp
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()
    assert (np.diff(scores) >= 0).all()


@every_strategy
def test_a_batch_does_not_depend_on_the_memory_layout_of_its_input(strategy: Strategy.ValueType) -> None:
    candidates = some(200, chosen=7)
    assert candidates.probabilities is not None
    elsewhere = Candidates(
        ids=candidates.ids,
        values=np.asfortranarray(candidates.values),
        probabilities=np.asfortranarray(candidates.probabilities),
        chosen=np.repeat(candidates.chosen, 2, axis=0)[::2],
    )
    positions, scores = choose(strategy, candidates, 20, seed=3)
    again, same = choose(strategy, elsewhere, 20, seed=3)
    assert positions.tolist() == again.tolist()
    assert scores.tolist() == same.tolist()


@every_strategy
def test_a_batch_of_size_0_is_empty(strategy: Strategy.ValueType) -> None:
    positions, scores = choose(strategy, some(3), 0, seed=1)
    assert len(positions) == len(scores) == 0


def grid(seed: int, size: int) -> NDArray[np.float32]:
    """Integers with mean 0: their products are exact, and many distances tie."""
    rng = np.random.default_rng(seed)
    half = rng.integers(-9, 10, (size // 2, 3)).astype(np.float32)
    return np.concatenate([half, -half])


@settings(deadline=None)
@given(st.integers(0, 9999), st.integers(2, 60), st.data())
def test_farthest_first_equals_choosing_one_sample_at_a_time(seed: int, half: int, data: st.DataObject) -> None:
    values = grid(seed, 2 * half)
    nearest = ((values - values[0]) ** 2).sum(axis=1)
    count = data.draw(st.integers(1, len(values)))
    positions, apart = farthest_first(Euclidean(values), nearest, count)
    free = nearest.copy()
    for at, distance in zip(positions, apart, strict=True):
        assert at == free.argmax()
        assert distance == free[at]
        free = np.where(free < 0, -1, np.minimum(free, ((values - values[at]) ** 2).sum(axis=1)))
        free[at] = -1


def test_farthest_first_is_exact_beyond_the_candidates_it_tracks() -> None:
    values = grid(seed=5, size=3_000)
    nearest = ((values - values[0]) ** 2).sum(axis=1)
    positions, _ = farthest_first(Euclidean(values), nearest, 700)
    free = nearest
    for at in positions:
        assert at == free.argmax()
        free = np.where(free < 0, -1, np.minimum(free, ((values - values[at]) ** 2).sum(axis=1)))
        free[at] = -1


def test_k_means_plus_plus_draws_by_squared_distance_from_the_nearest_chosen() -> None:
    """Each batch of four out of five is as frequent as defined, though several points are drawn at a time."""
    values = np.array([[0], [1], [3], [4], [9]], np.float32)
    draws = 3_000
    counts: dict[tuple[int, ...], int] = {}
    for seed in range(draws):
        batch = tuple(k_means_plus_plus(Euclidean(values), 0, 4, seed).tolist())
        counts[batch] = counts.get(batch, 0) + 1
    for batch, chance in _chances(values[:, 0], (0,), 4).items():
        spread = (draws * chance * (1 - chance)) ** 0.5
        assert abs(counts.get(batch, 0) - draws * chance) < 5 * spread + 1


def _chances(values: NDArray[np.float32], batch: tuple[int, ...], count: int) -> dict[tuple[int, ...], float]:
    if len(batch) == count:
        return {batch: 1.0}
    nearest = ((values[:, None] - values[list(batch)]) ** 2).min(axis=1)
    return {
        longer: float(nearest[at] / nearest.sum()) * chance
        for at in np.flatnonzero(nearest)
        for longer, chance in _chances(values, (*batch, int(at)), count).items()
    }


def test_distances_of_gradients_are_those_of_products_of_errors_and_values() -> None:
    candidates = some(12)
    probabilities = candidates.probabilities
    assert probabilities is not None
    errors = probabilities - np.eye(4, dtype=np.float32)[probabilities.argmax(axis=1)]
    with_one = np.concatenate([candidates.values, np.ones((12, 1), np.float32)], axis=1)
    whole = np.einsum("nc,nd->ncd", errors, with_one).reshape(12, -1)
    expected = ((whole[:, None] - whole) ** 2).sum(axis=2)
    everything = np.arange(12)
    assert Gradients(probabilities, candidates.values).distances(everything, everything) == pytest.approx(
        expected, abs=1e-5
    )


def test_equal_samples_have_distance_0_despite_float32_rounding() -> None:
    values = np.random.default_rng(0).random((50, 784), np.float32) + 100
    everything = np.arange(50)
    apart = Euclidean(np.concatenate([values, values])).distances(everything, everything + 50)
    assert not apart.diagonal().any()
    assert apart[~np.eye(50, dtype=bool)] == pytest.approx(784 / 6, rel=0.3)


def blobs(seed: int = 0) -> NDArray[np.float32]:
    """Three clusters of 60, 30 and 10 samples, far from each other."""
    rng = np.random.default_rng(seed)
    centres = np.repeat(np.array([[0, 0, 0], [9, 0, 0], [0, 9, 0]], np.float32), [60, 30, 10], axis=0)
    return np.asarray(centres + rng.normal(0, 0.5, centres.shape), np.float32)


@pytest.mark.parametrize("strategy", [Strategy.STRATEGY_K_MEANS, Strategy.STRATEGY_TYPICLUST])
def test_the_first_batch_has_one_sample_per_cluster_largest_first(strategy: Strategy.ValueType) -> None:
    positions, _ = choose(strategy, replace(some(100, 3), values=blobs(), probabilities=None), 3, seed=1)
    assert np.searchsorted([60, 90], positions, side="right").tolist() == [0, 1, 2]


def test_typiclust_chooses_from_clusters_without_labels() -> None:
    values = blobs()
    labelled = values[[5, 7, 70]]  # two of the largest cluster, one of the second
    positions, _ = choose(Strategy.STRATEGY_TYPICLUST, replace(some(100, 3), values=values, chosen=labelled), 1, seed=1)
    assert positions[0] >= 60


def test_typiclust_chooses_the_sample_nearest_to_its_20_neighbours() -> None:
    values = np.random.default_rng(2).standard_normal((70, 1)).astype(np.float32) ** 3
    positions, _ = choose(Strategy.STRATEGY_TYPICLUST, replace(some(70, 1), values=values), 1, seed=1)
    others = np.sort(abs(values - values.T), axis=1)[:, 1:21]
    assert positions.tolist() == [others.mean(axis=1).argmin()]


def test_k_center_measures_distance_from_labelled_samples_too() -> None:
    values = np.array([[0], [4], [10]], np.float32)
    labelled = np.array([[11]], np.float32)
    positions, scores = choose(Strategy.STRATEGY_K_CENTER, replace(some(3, 1), values=values, chosen=labelled), 3, 1)
    assert positions.tolist() == [0, 1, 2]
    assert scores.tolist() == [-11, -4, -1]


def test_clustered_margin_starts_with_the_smallest_margin() -> None:
    candidates = some(50)
    positions, _ = choose(Strategy.STRATEGY_CLUSTERED_MARGIN, candidates, 5, seed=1)
    assert positions[0] == candidates.margins.argmin()


def test_density_is_uncertainty_times_mean_cosine_similarity() -> None:
    candidates = some(40)
    units = candidates.values / np.linalg.norm(candidates.values, axis=1, keepdims=True)
    wanted = (1 - candidates.margins) * (units @ units.T).mean(axis=1)
    positions, scores = density(candidates, 40, seed=0)
    assert positions.tolist() == np.argsort(-wanted).tolist()
    assert -scores == pytest.approx(wanted[positions], abs=1e-5)


def test_power_margin_draws_in_proportion_to_one_minus_the_margin() -> None:
    ids, margins = np.arange(3, dtype=np.uint32), np.array([0.9, 0.7, 0.4], np.float32)
    first = [int(power_scores(ids, margins, seed).argmin()) for seed in range(6_000)]
    assert np.bincount(first) / 6_000 == pytest.approx([0.1, 0.3, 0.6], abs=0.03)


def test_power_margin_scores_do_not_depend_on_the_part_of_the_pool() -> None:
    ids, margins = np.arange(100, dtype=np.uint32), some(100).margins
    whole = power_scores(ids, margins, seed=4)
    assert power_scores(ids[30:], margins[30:], seed=4).tolist() == whole[30:].tolist()


@pytest.mark.parametrize("strategy", sorted({*NEED_NO_MODEL} & {*CHOOSE_TOGETHER}))
def test_splitting_a_pool_into_shards_does_not_change_the_batch(strategy: Strategy.ValueType) -> None:
    values = some(200).values
    question = Question(strategy, 7, BitMap([3, 150]), 5)
    whole = rank_together([Part(0, values)], question)
    cut = rank_together([Part(0, values[:60]), Part(60, values[60:])], question)
    assert np.array_equal(whole.sample_ids, cut.sample_ids)
    assert not {3, 150} & {*whole.sample_ids.tolist()}
    everything = rank_together([Part(0, values)], Question(strategy, 0, BitMap([3, 150]), 5))
    assert sorted(everything.sample_ids.tolist()) == [each for each in range(200) if each not in (3, 150)]
