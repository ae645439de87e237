"""Coordinates among near neighbours: the graph against plain arithmetic, and what they are good for."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from scorer_svc.neighbours import COORDINATES, LANDMARKS_MIN, Neighbourhood, learn_neighbourhood
from scorer_svc.patches import learn_patches
from scorer_svc.session import open_session
from tests.unit.test_patches import images

Values = NDArray[np.float32]


def spirals(count: int, seed: int = 0) -> tuple[Values, NDArray[np.int64]]:
    """Points of two spirals, one inside the other: no straight line parts them."""
    rng = np.random.default_rng(seed)
    kinds = np.arange(count) % 2
    turn = 3 * np.pi * np.sqrt(rng.uniform(0.1, 1, count))
    angle = turn + np.pi * kinds
    points = np.stack([turn * np.cos(angle), turn * np.sin(angle)], axis=1) + rng.normal(0, 0.1, (count, 2))
    return points.astype(np.float32), kinds


def located(among: Neighbourhood, samples: Values) -> NDArray[np.float64]:
    """Sample by sample, in float64."""
    landmarks, found = among.landmarks.astype(np.float64), []
    for place in (samples.astype(np.float64) - among.mean) @ among.onto:
        relative = ((landmarks - place) ** 2).sum(axis=1) / among.widths
        reach = max(np.sort(relative)[19], among.reach_min)
        weights = np.maximum(np.exp(-2 * relative / reach) - np.exp(-2), 0)
        found.append(weights @ among.coordinates / max(weights.sum(), 1e-12))
    return np.array(found)


def test_few_labels_tell_two_spirals_apart() -> None:
    points, kinds = spirals(600)
    among = learn_neighbourhood(points[:400], 0, length=1.0)
    seen = located(among, points)
    told, wanted = slice(0, 40), 2.0 * kinds[:40] - 1
    by_place, by_point = (
        (values @ np.linalg.lstsq(values[told], wanted, rcond=None)[0] > 0) == kinds
        for values in (np.c_[seen, np.ones(600)], np.c_[points, np.ones(600)])
    )
    assert by_point.mean() < 0.75
    assert by_place[40:400].mean() > 0.95
    assert by_place[400:].mean() > 0.95, "samples that were not there when it was learned"


@pytest.mark.parametrize("copies", [1, 40])
def test_the_graph_computes_the_same(copies: int) -> None:
    """Of duplicates too, which are no distance apart."""
    samples = np.repeat(images(400 // copies, 8, 8), copies, axis=0)
    session = open_session(learn_patches(samples, 0))
    fed = session.get_inputs()[0].name
    features = session.run(None, {fed: samples.reshape(len(samples), -1)})[0]
    patches = features[:, :-COORDINATES]
    among = learn_neighbourhood(patches, 0, length=20.0)  # fewer samples than are ever drawn: it learned from all
    np.testing.assert_allclose(features[:, -COORDINATES:], located(among, patches), atol=2e-2)


def test_the_same_samples_and_seed_give_the_same() -> None:
    points, _ = spirals(300)
    one, same, other = (learn_neighbourhood(points, seed, length=1.0) for seed in (1, 1, 2))
    assert one.coordinates.tobytes() == same.coordinates.tobytes()
    assert one.coordinates.shape == other.coordinates.shape == (300, COORDINATES)


@pytest.mark.parametrize("points", [np.zeros((LANDMARKS_MIN, 5)), np.repeat(np.eye(4), LANDMARKS_MIN // 4, axis=0)])
def test_samples_that_are_all_alike_have_coordinates_all_the_same(points: NDArray[np.float64]) -> None:
    among = learn_neighbourhood(points.astype(np.float32), 0, length=1.0)
    assert np.isfinite(among.coordinates).all()
    assert np.isfinite(located(among, points.astype(np.float32))).all()
