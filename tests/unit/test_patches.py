"""Patch features: the ONNX graph against plain arithmetic, pooling of large images, and unusable samples."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import onnx
import pytest
from labelloop.domain.limits import PATCH_FEATURES
from labelloop.domain.sample_layout import layout_of_shape
from numpy.typing import NDArray

from scorer_svc.features import patches
from scorer_svc.features.patch_onnx import Bank, raw_graph
from scorer_svc.features.picture_input import pooling
from scorer_svc.features.spectral_embedding import COORDINATES
from scorer_svc.models.graph import Graph
from scorer_svc.models.validation import validated

learn_patches = partial(patches.learn_patches, patch_count=20_000)  # a run uses six times as many


def images(count: int, *shape: int, seed: int = 0) -> NDArray[np.uint8]:
    """Blurred noise, so that patches are of several kinds."""
    noise = np.random.default_rng(seed).normal(128, 60, (count, *shape))
    blurred = (noise + np.roll(noise, 1, axis=1) + np.roll(noise, 1, axis=2)) / 2 - 64
    return np.clip(blurred, 0, 255).astype(np.uint8)


def plain(bank: Bank, samples: NDArray[Any]) -> NDArray[np.float64]:
    """A bank's features of images ``[n, height, width, channels]``, patch by patch."""
    count, height, width, _ = samples.shape
    vectors, side, _, _ = bank.kernel.shape
    rows, columns = height - side + 1, width - side + 1
    active = np.zeros((count, vectors, rows, columns))
    for row in range(rows):
        for column in range(columns):
            patch = samples[:, row : row + side, column : column + side].reshape(count, -1).astype(np.float64)
            centred = patch - patch.mean(axis=1, keepdims=True)
            unit = centred / np.sqrt(patch.var(axis=1, keepdims=True) + bank.flat_variance)
            active[:, :, row, column] = np.maximum(unit @ bank.kernel.reshape(vectors, -1).T + bank.bias, 0)
    tall, wide = -(-rows // 2), -(-columns // 2)
    top, bottom = slice(0, tall), slice(rows - tall, rows)
    left, right = slice(0, wide), slice(columns - wide, columns)
    quadrants = [active[:, :, each, other].mean(axis=(2, 3)) for each in (top, bottom) for other in (left, right)]
    return np.asarray(np.sqrt(np.stack(quadrants, axis=2).reshape(count, -1)))


@pytest.mark.parametrize(("shape", "side"), [((9, 8, 1), 3), ((10, 10, 3), 4), ((6, 6, 1), 3)])
def test_the_graph_computes_the_features_of_its_bank(shape: tuple[int, ...], side: int) -> None:
    rng = np.random.default_rng(0)
    kernel = rng.normal(0, 1, (7, side, side, shape[2])).astype(np.float32)
    kernel -= kernel.mean(axis=(1, 2, 3), keepdims=True)
    bank = Bank(kernel, rng.normal(-1, 1, 7).astype(np.float32), 10.0, shape)
    samples = images(11, *shape)
    found = Graph(raw_graph(bank), "g", field="f").answers(samples)
    np.testing.assert_allclose(found, plain(bank, samples), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("shape", [(14, 14), (8, 8), (10, 12, 3)])
def test_learned_graphs_are_valid_scaled_and_reproducible(shape: tuple[int, ...]) -> None:
    samples = images(200, *shape)
    data = learn_patches(samples, 3)
    onnx.checker.check_model(validated(data).model)
    graph = Graph(data, "g", field="f")
    assert (graph.feature_count, graph.answer_count, graph.dtype) == (int(np.prod(shape)), PATCH_FEATURES, "uint8")
    features = graph.answers(samples)
    assert np.isfinite(features).all()
    assert np.abs(features.mean(axis=0)).max() < 0.1
    for part in (features[:, :-COORDINATES], features[:, -COORDINATES:]):
        assert (part**2).sum(axis=1).mean() ** 0.5 == pytest.approx(20, rel=0.1)
    assert learn_patches(samples, 3) == data
    assert learn_patches(samples, 4) != data


@pytest.mark.parametrize("shape", [(12, 12, 1), (50, 50, 3)])
def test_pictures_have_the_same_features_in_any_layout_and_scale(shape: tuple[int, ...]) -> None:
    samples = images(150, *shape)
    expected = Graph(learn_patches(samples, 0), "g", field="f").answers(samples)
    first = samples.transpose(0, 3, 1, 2)
    for given, scale, channels_first in (
        (first, 255, True),
        (samples.reshape(150, -1), 255, False),
        (samples.astype(np.float32) / 255, 1, False),
        (first.astype(np.float32) * 16 / 255, 16, True),
    ):
        layout = layout_of_shape(shape, "uint8")
        layout.full_scale, layout.channels_first = scale, channels_first
        data = learn_patches(np.ascontiguousarray(given), 0, layout)
        onnx.checker.check_model(validated(data).model)
        graph = Graph(data, "g", field="f")
        assert (graph.feature_count, graph.dtype) == (int(np.prod(shape)), given.dtype.name)
        np.testing.assert_allclose(graph.answers(given), expected, atol=2e-3)


@pytest.mark.parametrize("shape", [(1, 60, 50, 1), (2, 16, 400, 1), (3, 100, 100, 3)])
def test_features_of_large_images_are_those_of_their_averaged_pixels(shape: tuple[int, ...]) -> None:
    """``shape`` begins with a number of images."""
    count, height, width, channels = shape
    samples = images(*shape)
    down, across = pooling(height, width)
    assert down * across > 1
    rows, columns = height // down, width // across
    cut = samples[:, : rows * down, : columns * across].reshape(count, rows, down, columns, across, channels)
    averaged = cut.mean(axis=(2, 4), dtype=np.float64)
    kernel = np.random.default_rng(0).normal(0, 1, (5, 4, 4, channels)).astype(np.float32)
    kernel -= kernel.mean(axis=(1, 2, 3), keepdims=True)
    bank = Bank(kernel, np.full(5, -0.5, np.float32), 10.0, shape[1:])
    found = Graph(raw_graph(bank), "g", field="f").answers(samples)
    np.testing.assert_allclose(found, plain(bank, averaged), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("shape", [(28, 28), (48, 48), (4, 500), (7, 7)])
def test_small_images_are_not_pooled(shape: tuple[int, int]) -> None:
    assert pooling(*shape) == (1, 1)


@pytest.mark.parametrize("shape", [(52, 52), (64, 64), (224, 224), (30, 400), (400, 30), (5, 9_000), (2_000, 2_000)])
def test_large_images_are_pooled_to_a_bounded_size(shape: tuple[int, int]) -> None:
    sides = [size // factor for size, factor in zip(shape, pooling(*shape), strict=True)]
    assert min(sides) >= min(8, *shape)
    assert 300 < sides[0] * sides[1] <= 48 * 48 or min(shape) < 8


def stripes(count: int, shape: tuple[int, ...]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Noisy waves of any phase, horizontal in one class and vertical in the other: no single pixel separates them."""
    rng = np.random.default_rng(1)
    kinds = np.arange(count) % 2
    made = np.empty((count, *shape), np.uint8)
    for each, kind in zip(made, kinds, strict=True):
        along = np.indices(shape[:2])[kind].reshape(*shape[:2], *[1] * len(shape[2:]))
        wave = np.sin(along / shape[kind] * 30 + rng.uniform(0, 2 * np.pi))
        each[:] = np.clip(128 + 40 * wave + rng.normal(0, 30, shape), 0, 255)
    return made, kinds


@pytest.mark.parametrize("shape", [(224, 224, 3), (30, 400)])
def test_a_linear_model_of_the_features_separates_large_images(shape: tuple[int, ...]) -> None:
    samples, kinds = stripes(100, shape)
    features = Graph(learn_patches(samples, 0), "g", field="f").answers(samples)
    assert features.shape == (100, 1_800)
    told, wanted = features[:50], 2.0 * kinds[:50] - 1
    dual = np.linalg.solve(told @ told.T + 40 * np.eye(50), wanted)
    right = (features[50:] @ (told.T @ dual) > 0) == kinds[50:]
    assert right.mean() > 0.95


def test_features_of_a_sample_do_not_depend_on_the_others() -> None:
    samples = images(60, 12, 12)
    graph = Graph(learn_patches(samples, 0), "g", field="f")
    whole = graph.answers(samples)
    assert np.array_equal(graph.answers(samples[50:]), whole[50:])
    np.testing.assert_allclose(graph.classify(samples[7:9].reshape(2, -1)), whole[7:9], atol=1e-4)


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        (np.zeros((10, 28), np.uint8), "not pictures"),
        (np.zeros((10, 3, 28), np.uint8), "4 x 4"),
        (np.zeros((10, 28, 28), np.float32), "float32"),
        (np.zeros((10, 784), np.uint8), "not pictures"),
        (np.full((10, 28, 28), 7, np.uint8), "plain surfaces"),
    ],
)
def test_unusable_samples_are_refused_with_a_reason(samples: NDArray[np.generic], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        learn_patches(samples, 0)
