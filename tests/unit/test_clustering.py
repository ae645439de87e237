"""Clusters are planned within bounds of work, ended when nobody waits, and found."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from labelloop.domain.abandonment import Abandoned, Wanted
from sklearn.cluster import KMeans

from scorer_svc.numerics import lloyd as module
from scorer_svc.numerics.clustering import WORK_MAX, Plan, cluster, clusters_max, plan
from scorer_svc.numerics.lloyd import lloyd

RNG = np.random.default_rng(0)
POINTS = np.concatenate([RNG.normal(centre, 0.2, (50, 3)) for centre in (0, 5, 10)]).astype(np.float32)


@pytest.mark.parametrize("samples", [100, 60_000, 1_000_000])
@pytest.mark.parametrize("size", [1, 784])
@pytest.mark.parametrize("clusters", [2, 10, 100])
def test_what_is_planned_stays_within_the_bound(samples: int, size: int, clusters: int) -> None:
    planned = plan(samples, size, clusters)
    assert (planned is not None) == (clusters <= clusters_max(samples, size))
    if planned:
        assert 1 <= planned.starts <= 10
        assert 10 <= planned.iterations <= 300
        assert planned.starts * planned.iterations * samples * size * clusters <= WORK_MAX


def test_the_largest_number_of_clusters_is_the_last_that_has_a_plan() -> None:
    most = clusters_max(60_000, 784)
    assert plan(60_000, 784, most)
    assert plan(60_000, 784, most + 1) is None


def test_small_pools_get_ten_starts_of_all_iterations() -> None:
    assert plan(10_000, 100, 10) == (10, 300)


def test_clusters_are_found() -> None:
    of, centroids = cluster(POINTS, 3, seed=0, planned=Plan(10, 300))
    assert sorted(centroids.mean(axis=1).round().tolist()) == [0, 5, 10]
    assert len({*of[:50]}) == len({*of[50:100]}) == len({*of[100:]}) == 1


def test_pieces_of_iterations_find_what_all_at_once_do(monkeypatch: pytest.MonkeyPatch) -> None:
    values = RNG.normal(size=(2_000, 4)).astype(np.float32)
    whole = KMeans(5, init=values[:5], n_init=1, max_iter=40).fit(values)
    monkeypatch.setattr(module, "_AT_ONCE_WORK", 3 * values.size * 5)
    pieces = lloyd(values, values[:5], 40)
    np.testing.assert_allclose(pieces.spread, whole.inertia_, rtol=1e-3)


def test_clustering_that_nobody_waits_for_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted, fits = Wanted(), threading.Semaphore(0)

    def leaving(*settings: Any, **named: Any) -> KMeans:
        """Leave while an iteration is carried out."""
        fits.release()
        wanted.abandon()
        return KMeans(*settings, **named)

    monkeypatch.setattr("sklearn.cluster.KMeans", leaving)
    monkeypatch.setattr(module, "_AT_ONCE_WORK", 1)
    with pytest.raises(Abandoned):
        wanted.run(lloyd, RNG.normal(size=(500, 4)).astype(np.float32), RNG.normal(size=(5, 4)).astype(np.float32), 300)
    assert fits.acquire(blocking=False)
    assert not fits.acquire(blocking=False), "one iteration more would have been the second"
