"""Scattering features: the ONNX graph against plain arithmetic, kinds of pictures, and pools that hold little."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from labelloop.domain.limits import OPTIONAL_COLUMNS, SCATTERING_FEATURES
from labelloop.domain.sample_layout import layout_of_shape
from numpy.typing import NDArray
from scipy.signal import correlate2d

from scorer_svc.features.onnx_chain import OUTPUT, graph_bytes
from scorer_svc.features.picture_input import BYTES
from scorer_svc.features.scattering import learn_scattering
from scorer_svc.features.scattering_copies import changed
from scorer_svc.features.scattering_filters import blur, colours, wavelets
from scorer_svc.features.scattering_maps import maps, principal
from scorer_svc.features.scattering_onnx import FIRST, SECOND, Bank, Pyramid, scattering_nodes
from scorer_svc.models.graph import Graph
from scorer_svc.models.limits import MULTIPLY_ADDS_MAX
from scorer_svc.models.validation import validated
from tests.unit.test_patches import images

Reals = NDArray[np.float64]
SHAPES = [(9, 8, 1), (12, 10, 3), (20, 24, 1), (28, 28, 1), (4, 4, 2), (5, 7, 1), (21, 33, 4)]


def raw_graph(shape: tuple[int, ...], around: NDArray[np.float32]) -> Graph:
    pyramid = Pyramid(shape)
    nodes, weights = scattering_nodes(pyramid, around, BYTES, OUTPUT)
    data = graph_bytes("raw", nodes, weights, "uint8", int(np.prod(shape)), pyramid.feature_count)
    return Graph(data, "g", field="f")


def plain(picture: NDArray[np.uint8], around: NDArray[np.float32]) -> Reals:
    """The scattering of one picture ``[height, width, channels]`` of at most 48 x 48 pixels, filter by filter."""
    pyramid = Pyramid(picture.shape)
    top, left, bottom, right = pyramid.border
    border = ((top, bottom), (left, right), (0, 0))
    seen = np.pad(picture.astype(np.float64), border)
    against = np.pad(picture - around.astype(np.float64), border)
    found = [_cells(seen[:, :, channel]) for channel in range(picture.shape[2])]
    onto = colours(picture.shape[2]) if picture.shape[2] > 1 else np.ones((1, 1))
    layers = [against @ direction for direction in onto]
    for part, orders in ((layers[:1], 2), (layers[1:], 1)):
        found += _scattered(part, pyramid.levels, orders)
    return np.sqrt(np.concatenate(found) + 1e-6 * 255)


def _scattered(layers: list[Reals], levels: int, orders: int) -> list[Reals]:
    found = []
    for level in range(levels if layers else 0):
        moduli = [each for layer in layers for each in _moduli(layer, FIRST)]
        found += [_cells(each) for each in moduli]
        for _ in range(level + 1, levels if orders == 2 else 0):
            moduli = [_averaged(each) for each in moduli]
            found += [_cells(again) for each in moduli for again in _moduli(each, SECOND)]
        layers = [_half(each) for each in layers]
    return found


def _moduli(layer: Reals, bank: Bank) -> list[Reals]:
    waves = [correlate2d(layer, kernel, "same") for kernel in wavelets(*bank).astype(np.float64)]
    return [np.hypot(waves[turn], waves[turn + bank.orientations]) for turn in range(bank.orientations)]


def _half(layer: Reals) -> Reals:
    return np.asarray(correlate2d(layer, blur().astype(np.float64), "same")[::2, ::2])


def _averaged(layer: Reals) -> Reals:
    rows, columns = (side // 2 for side in layer.shape)
    return np.asarray(layer.reshape(rows, 2, columns, 2).mean(axis=(1, 3)))


def _cells(layer: Reals) -> Reals:
    rows, columns = (side // 4 for side in layer.shape)
    return np.asarray(layer.reshape(4, rows, 4, columns).mean(axis=(1, 3)).ravel())


def copies_of(distinct: int, count: int, *shape: int) -> NDArray[np.uint8]:
    return np.repeat(images(distinct, *shape), count // distinct, axis=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_graph_computes_the_scattering(shape: tuple[int, ...]) -> None:
    around = np.arange(shape[2], dtype=np.float32) + 20
    samples = images(3, *shape)
    expected = np.array([plain(each, around) for each in samples])
    found = raw_graph(shape, around).answers(samples)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_wavelets_do_not_see_brightness_and_colours_are_orthonormal() -> None:
    np.testing.assert_allclose(wavelets(6, 5).sum(axis=(1, 2)), 0, atol=1e-6)
    np.testing.assert_allclose(colours(3) @ colours(3).T, np.eye(3), atol=1e-6)
    np.testing.assert_allclose(colours(3)[0], np.sqrt(1 / 3), atol=1e-6)


def test_what_is_around_pictures_is_seen_as_no_edge() -> None:
    grey = np.full((1, 24, 24, 1), 200, np.uint8)
    found = raw_graph(grey.shape[1:], np.full(1, 200, np.float32)).answers(grey)
    assert np.ptp(found[0, 16:]) < 1e-3


@pytest.mark.parametrize("shape", [(28, 28), (12, 12, 3), (8, 9), (32, 32, 3)])
def test_learned_graphs_are_valid_scaled_and_reproducible(shape: tuple[int, ...]) -> None:
    samples = images(150, *shape)
    data = learn_scattering(samples, 3)
    graph = Graph(data, "g", field="f")
    assert (graph.feature_count, graph.dtype) == (int(np.prod(shape)), "uint8")
    features = graph.answers(samples)
    optional = int(onnx.load_from_string(data).metadata_props[0].value)
    assert onnx.load_from_string(data).metadata_props[0].key == OPTIONAL_COLUMNS
    assert 0 < optional < graph.answer_count <= SCATTERING_FEATURES
    assert np.abs(features.mean(axis=0)).max() < 0.1
    values = features[:, : min(len(samples) - 1, Pyramid((*shape, 1)[:3]).feature_count)]
    for part in (values, features[:, -optional:]):
        assert (part**2).sum(axis=1).mean() ** 0.5 == pytest.approx(20, rel=0.1)
    assert learn_scattering(samples, 3) == data
    assert learn_scattering(samples, 4) != data


@pytest.mark.parametrize("shape", [(12, 12, 1), (50, 50, 3)])
def test_pictures_have_the_same_features_in_any_layout_and_scale(shape: tuple[int, ...]) -> None:
    samples = images(60, *shape)
    expected = Graph(learn_scattering(samples, 0), "g", field="f").answers(samples)
    layout = layout_of_shape(shape, "uint8")
    layout.channels_first, layout.full_scale = True, 1.0
    given = np.ascontiguousarray(samples.transpose(0, 3, 1, 2), np.float32) / 255
    graph = Graph(learn_scattering(given, 0, layout), "g", field="f")
    assert graph.dtype == "float32"
    np.testing.assert_allclose(graph.answers(given), expected, atol=2e-2)


@pytest.mark.parametrize("side", [64, 200, 512])
def test_large_pictures_are_averaged_first_and_their_cost_is_bounded(side: int) -> None:
    samples = images(12, side, side, 3)
    data = learn_scattering(samples, 0)
    cost = validated(data).cost
    assert cost.total < MULTIPLY_ADDS_MAX / 5
    assert cost.held_bytes < 64_000_000
    assert len(data) < 16_000_000
    assert max(Pyramid(samples.shape[1:]).averaged) <= 48
    assert np.isfinite(Graph(data, "g", field="f").answers(samples)).all()


@pytest.mark.parametrize(("distinct", "count"), [(2, 40), (5, 200), (20, 200)])
def test_copies_are_collapsed_and_directions_that_nothing_varies_in_are_dropped(distinct: int, count: int) -> None:
    samples = copies_of(distinct, count, 12, 12)
    features = Graph(learn_scattering(samples, 0), "g", field="f").answers(samples)
    assert np.isfinite(features).all()
    each = features.reshape(distinct, count // distinct, -1)
    assert np.ptp(each, axis=1).max() < 1e-2
    assert len(np.unique(each[:, 0].round(1), axis=0)) == distinct
    values = each[:, 0, : distinct - 1]
    assert np.linalg.matrix_rank(values - values.mean(axis=0), tol=1e-2) == distinct - 1


def test_few_pictures_get_values_only_and_the_fit_may_leave_out_none() -> None:
    data = learn_scattering(images(60, 12, 12), 0)
    assert not onnx.load_from_string(data).metadata_props
    assert Graph(data, "g", field="f").answer_count == 59


@pytest.mark.parametrize(
    ("samples", "why"),
    [
        (np.full((50, 12, 12), 7, np.uint8), "alike"),
        (images(1, 12, 12), "alike"),
        (images(50, 3, 12), "pixels"),
        (np.zeros((50, 144), np.float32), "pictures"),
    ],
    ids=["all equal", "one", "too small", "vectors"],
)
def test_pools_to_learn_nothing_from_are_refused(samples: NDArray[np.uint8], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        learn_scattering(samples, 0)


def test_changed_copies_are_close_and_differ() -> None:
    pictures = images(30, 20, 20, 1).astype(np.float32)
    copies = changed(pictures, np.random.default_rng(0))
    assert copies.shape == pictures.shape
    assert not np.isclose(copies, pictures).all(axis=(1, 2, 3)).any()
    assert copies.min() >= pictures.min()
    assert copies.max() <= pictures.max()
    flat = np.full((3, 8, 9, 2), 40, np.float32)
    np.testing.assert_allclose(changed(flat, np.random.default_rng(0)), flat, rtol=1e-6)


def test_maps_shrink_what_copies_differ_in_and_agree_on_length() -> None:
    rng = np.random.default_rng(0)
    samples = rng.normal(0, 1, (500, 3)).astype(np.float32)
    differences = rng.normal(0, [0.1, 3, 0.1], (500, 3)).astype(np.float32)
    mapped = maps(samples, differences)
    for each in mapped:
        assert np.sqrt(((samples @ each) ** 2).sum(axis=1).mean()) == pytest.approx(20, rel=1e-5)
    reach = {name: np.linalg.norm(getattr(mapped, name), axis=1) for name in ("plain", "values", "invariant")}
    share = {name: each[1] / each[0] for name, each in reach.items()}
    assert share["plain"] > 0.9 > share["values"] > 3 * share["invariant"]


def test_principal_components_are_those_of_features_that_vary_alike() -> None:
    rng = np.random.default_rng(0)
    raw = (rng.normal(0, [100, 1, 1e-6], (200, 3)) + 50).astype(np.float32)
    found = principal(raw, 0)
    assert len(found.variances) == 2
    components = (raw - found.mean) @ found.onto
    np.testing.assert_allclose(components.std(axis=0), 1, rtol=0.1)
