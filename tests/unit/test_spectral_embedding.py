"""Spectral embedding: the ONNX graph against plain arithmetic, the use of the coordinates, and that samples and seed
alone decide them, not rounding."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from labelloop.domain.limits import PATCH_FEATURES
from numpy.typing import NDArray
from onnx import numpy_helper
from structlog.testing import capture_logs

from scorer_svc.features.patches import learn_patches
from scorer_svc.features.spectral_embedding import COORDINATES, LANDMARKS_MIN, Neighbourhood, learn_neighbourhood
from scorer_svc.models.graph import Graph
from scorer_svc.models.ort_session import open_session
from tests.unit.test_patches import images

Values = NDArray[np.float32]
_LENGTH = 20.0


def spirals(count: int, seed: int = 0) -> tuple[Values, NDArray[np.int64]]:
    """Points of two interleaved spirals, which no straight line separates."""
    rng = np.random.default_rng(seed)
    kinds = np.arange(count) % 2
    turn = 3 * np.pi * np.sqrt(rng.uniform(0.1, 1, count))
    angle = turn + np.pi * kinds
    points = np.stack([turn * np.cos(angle), turn * np.sin(angle)], axis=1) + rng.normal(0, 0.1, (count, 2))
    return points.astype(np.float32), kinds


def circles(per_circle: int, *radii: float) -> Values:
    """A grid of points on a product of circles, whose symmetry repeats eigenvalues."""
    angles = np.arange(per_circle) * 2 * np.pi / per_circle
    grid = np.stack(np.meshgrid(*[angles] * len(radii)), axis=-1).reshape(-1, len(radii))
    return np.asarray(np.concatenate([np.cos(grid), np.sin(grid)], axis=1) * np.tile(radii, 2), np.float32)


def clusters(count: int, size: int = 25) -> Values:
    """Clusters so far apart that no near neighbours connect them."""
    rng = np.random.default_rng(3)
    return (np.repeat(1_000 * np.eye(count), size, axis=0) + rng.normal(0, 1, (count * size, count))).astype(np.float32)


def learned(samples: Values, seed: int = 0) -> Neighbourhood:
    found = learn_neighbourhood(samples, seed, _LENGTH)
    assert found is not None
    return found


def located(among: Neighbourhood, samples: Values) -> NDArray[np.float64]:
    return located_at((samples.astype(np.float64) - among.mean) @ among.onto, among)


def located_at(places: NDArray[np.float64], among: Neighbourhood) -> NDArray[np.float64]:
    """Compute coordinates sample by sample, in float64."""
    landmarks, found = among.landmarks.astype(np.float64), []
    for place in places:
        relative = ((landmarks - place) ** 2).sum(axis=1) / among.widths
        reach = max(np.sort(relative)[19], among.reach_min)
        weights = np.maximum(np.exp(-2 * relative / reach) - np.exp(-2), 0) * among.copies
        found.append(weights @ among.coordinates / max(weights.sum(), 1e-5))
    return np.array(found)


def distances(points: NDArray[np.floating]) -> NDArray[np.float64]:
    exact = np.asarray(points, np.float64)
    return np.asarray(np.linalg.norm(exact[:, None] - exact[None], axis=2))


def test_few_labels_separate_two_spirals() -> None:
    points, kinds = spirals(600)
    seen = located(learned(points[:400]), points)
    told, wanted = slice(0, 40), 2.0 * kinds[:40] - 1
    by_place, by_point = (
        (values @ np.linalg.lstsq(values[told], wanted, rcond=None)[0] > 0) == kinds
        for values in (np.c_[seen, np.ones(600)], np.c_[points, np.ones(600)])
    )
    assert by_point.mean() < 0.75
    assert by_place[40:400].mean() > 0.95
    assert by_place[400:].mean() > 0.95, "samples that were not there when it was learned"


@pytest.mark.parametrize(("distinct", "copies"), [(400, 1), (100, 40)])
def test_the_graph_agrees_with_plain_arithmetic(distinct: int, copies: int) -> None:
    """Also for duplicates, whose distance is zero."""
    samples = np.repeat(images(distinct, 8, 8), copies, axis=0)
    data = learn_patches(samples, 0)
    session = open_session(data)
    tried = samples[::9].reshape(len(samples[::9]), -1)
    [features] = session.run(None, {session.get_inputs()[0].name: tried})
    held = {each.name: numpy_helper.to_array(each) for each in onnx.load_from_string(data).graph.initializer}
    among = Neighbourhood(
        mean=np.zeros(len(held["onto"]), np.float32),
        onto=held["onto"],
        landmarks=np.asarray(held["minus_twice_landmarks"].T / -2, np.float32),
        copies=held["copies"],
        widths=held["widths"],
        reach_min=float(held["reach_min"]),
        coordinates=held["landmark_coordinates"],
        defined=COORDINATES,
    )
    assert among.copies.tolist() == [copies] * distinct
    places = features[:, :-COORDINATES].astype(np.float64) @ held["onto"] - held["middle"]
    np.testing.assert_allclose(features[:, -COORDINATES:], located_at(places, among), atol=2e-2)


def test_the_same_samples_and_seed_give_the_same_coordinates() -> None:
    points, _ = spirals(300)
    one, same, other = (learned(points, seed) for seed in (1, 1, 2))
    assert one.coordinates.tobytes() == same.coordinates.tobytes()
    assert one.coordinates.shape == other.coordinates.shape == (300, COORDINATES)


POOLS = {
    "two spirals": spirals(400)[0],
    "a circle": circles(300, 1.0),
    "a large circle": circles(600, 1.0),
    "a torus": circles(20, 1.0, 1.0),
    "five clusters": clusters(5),
    "forty clusters": clusters(40),
    "more landmarks than are taken apart whole": clusters(5, 150),
}


@pytest.mark.parametrize("name", POOLS)
def test_coordinates_are_stable_under_rounding_of_the_samples(name: str) -> None:
    """Another processor changes no more than last bits, which repeated eigenvalues must not amplify."""
    points = POOLS[name]
    noise = np.random.default_rng(5).uniform(-1, 1, points.shape) * np.finfo(np.float32).eps * np.abs(points).max()
    one, other = learned(points), learned((points + noise).astype(np.float32))
    assert one.defined == other.defined > 0
    np.testing.assert_allclose(one.coordinates, other.coordinates, atol=0.02 * _LENGTH)


def test_a_group_of_equal_eigenvalues_is_left_out_if_it_does_not_fit_whole() -> None:
    """A product of three circles has 6 eigenvectors, then 12, then 8, of which only 6 fit."""
    among = learned(circles(8, 1.0, 1.0, 1.0))
    assert among.defined == 18
    assert not among.coordinates[:, 18:].any()
    assert np.linalg.matrix_rank(among.coordinates) == 18


def test_more_clusters_than_coordinates_stay_apart() -> None:
    points = clusters(40)
    apart = distances(located(learned(points), points))
    same = np.kron(np.eye(40), np.ones((25, 25))) > 0
    assert apart[same].max() < 0.1 * apart[~same].min()


@pytest.mark.parametrize("noise", [0, 1e-7])
def test_copies_of_every_sample_do_not_change_coordinates(noise: float) -> None:
    """Whether copies are exact or differ by rounding."""
    points, _ = spirals(300)
    copied = np.repeat(points, 7, axis=0)
    copied += np.random.default_rng(1).normal(0, noise, copied.shape).astype(np.float32) * np.abs(copied).max()
    one, other = learned(points), learned(copied)
    assert other.copies.tolist() == [7.0] * 300
    np.testing.assert_allclose(one.coordinates, other.coordinates, atol=0.02 * _LENGTH)


def test_a_landmark_counts_as_often_as_its_sample_occurs() -> None:
    points, _ = spirals(300)
    samples = np.repeat(points, np.where(np.arange(300) < 20, 40, 1), axis=0)
    seen = located(learned(samples), samples)
    np.testing.assert_allclose(seen.mean(axis=0), 0, atol=1e-3)
    assert np.sqrt((seen**2).sum(axis=1).mean()) == pytest.approx(_LENGTH, rel=1e-3)


@pytest.mark.parametrize("distinct", [1, 4, 20])
def test_a_few_distinct_samples_define_no_coordinates(distinct: int) -> None:
    points = np.repeat(np.random.default_rng(0).normal(0, 1, (distinct, 5)), LANDMARKS_MIN // distinct, axis=0)
    assert learn_neighbourhood(points.astype(np.float32), 0, _LENGTH) is None


def test_few_distinct_images_get_patch_features_only_and_a_log_line() -> None:
    samples = np.repeat(images(10, 8, 8), 40, axis=0)
    with capture_logs() as logs:
        graph = Graph(learn_patches(samples, 0), "g", field="f")
    assert graph.answer_count == PATCH_FEATURES
    assert [(line["coordinates"], line["coordinates_max"]) for line in logs] == [(0, COORDINATES)]
    features = graph.answers(samples)
    assert np.isfinite(features).all()
    assert len(np.unique(features.round(3), axis=0)) == 10
