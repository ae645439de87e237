"""Features learned from images: the graph against the arithmetic it stands for, and what cannot be learned from."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from scorer_svc.graph import Graph
from scorer_svc.patch_graph import Bank, raw_graph
from scorer_svc.patches import learn_patches
from scorer_svc.vetting import vetted
from trainer_svc.spec_check import PATCH_FEATURES


def images(count: int, *shape: int, seed: int = 0) -> NDArray[np.uint8]:
    """Blurred noise, so that patches are of several kinds."""
    noise = np.random.default_rng(seed).normal(128, 60, (count, *shape))
    blurred = (noise + np.roll(noise, 1, axis=1) + np.roll(noise, 1, axis=2)) / 2 - 64
    return np.clip(blurred, 0, 255).astype(np.uint8)


def plain(bank: Bank, samples: NDArray[np.uint8]) -> NDArray[np.float64]:
    """What a bank says of images ``[n, height, width, channels]``, patch by patch."""
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
def test_the_graph_computes_what_it_stands_for(shape: tuple[int, ...], side: int) -> None:
    rng = np.random.default_rng(0)
    kernel = rng.normal(0, 1, (7, side, side, shape[2])).astype(np.float32)
    kernel -= kernel.mean(axis=(1, 2, 3), keepdims=True)
    bank = Bank(kernel, rng.normal(-1, 1, 7).astype(np.float32), 10.0, shape)
    samples = images(11, *shape)
    found = Graph(raw_graph(bank), "g", field="f").answers(samples)
    np.testing.assert_allclose(found, plain(bank, samples), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("shape", [(14, 14), (8, 8), (10, 12, 3)])
def test_what_is_learned_is_sound_and_the_same_each_time(shape: tuple[int, ...]) -> None:
    samples = images(200, *shape)
    data = learn_patches(samples, 3)
    onnx.checker.check_model(vetted(data))
    graph = Graph(data, "g", field="f")
    assert (graph.feature_count, graph.answer_count, graph.dtype) == (int(np.prod(shape)), PATCH_FEATURES, "uint8")
    features = graph.answers(samples)
    assert np.isfinite(features).all()
    assert np.abs(features.mean(axis=0)).max() < 0.1
    assert (features**2).sum(axis=1).mean() ** 0.5 == pytest.approx(20, rel=0.1)
    assert learn_patches(samples, 3) == data
    assert learn_patches(samples, 4) != data


def test_features_of_a_sample_do_not_hang_on_the_others() -> None:
    samples = images(60, 12, 12)
    graph = Graph(learn_patches(samples, 0), "g", field="f")
    whole = graph.answers(samples)
    assert np.array_equal(graph.answers(samples[50:]), whole[50:])
    np.testing.assert_allclose(graph.classify(samples[7:9].reshape(2, -1)), whole[7:9], atol=1e-4)


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        (np.zeros((10, 28), np.uint8), "not images"),
        (np.zeros((10, 3, 28), np.uint8), "4 x 4"),
        (np.zeros((10, 28, 28), np.float32), "float32"),
        (np.full((10, 28, 28), 7, np.uint8), "plain surfaces"),
    ],
)
def test_what_cannot_be_learned_from_is_said(samples: NDArray[np.generic], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        learn_patches(samples, 0)
