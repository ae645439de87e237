"""What samples are taken for, from their shape, their range and how alike neighbouring values are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from labelloop.domain.sample_layout import as_picture, as_pictures, layout_of, layout_of_shape
from labelloop.events.v1.events_pb2 import SampleKind, SampleLayout
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.decomposition import PCA

IMAGE, VECTOR = SampleKind.SAMPLE_KIND_IMAGE, SampleKind.SAMPLE_KIND_VECTOR


def smooth(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    """Pictures ``[n, height, width, channels]`` of blurred noise, from 0 to 1."""
    noise = np.random.default_rng(seed).normal(size=shape)
    blurred = gaussian_filter(noise, (0, 2, 2, 0)) + gaussian_filter(noise[..., :1], (0, 2, 2, 0))
    blurred -= blurred.min()
    return np.asarray(blurred / blurred.max(), np.float32)


GREY, COLOUR = smooth(40, 20, 20, 1), smooth(40, 16, 16, 3)


def as_bytes(pictures: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.rint(pictures * 255).astype(np.uint8)


def image(height: int, width: int, channels: int, scale: float = 1, first: bool = False) -> SampleLayout:
    return SampleLayout(
        kind=IMAGE, height=height, width=width, channels=channels, channels_first=first, full_scale=scale
    )


@pytest.mark.parametrize(
    ("samples", "layout"),
    [
        (as_bytes(GREY)[..., 0], image(20, 20, 1, 255)),
        (as_bytes(GREY), image(20, 20, 1, 255)),
        (as_bytes(GREY).transpose(0, 3, 1, 2), image(20, 20, 1, 255, first=True)),
        (as_bytes(GREY).reshape(40, -1), image(20, 20, 1, 255)),
        (GREY[..., 0], image(20, 20, 1)),
        (GREY[..., 0] * 255, image(20, 20, 1, 255)),
        (GREY[..., 0] * 4_000, image(20, 20, 1, 4_095)),
        (GREY.reshape(40, -1) * 16, image(20, 20, 1, 16)),
        (as_bytes(COLOUR), image(16, 16, 3, 255)),
        (COLOUR, image(16, 16, 3)),
        (COLOUR.transpose(0, 3, 1, 2), image(16, 16, 3, first=True)),
        (COLOUR.reshape(40, -1), image(16, 16, 3)),
        (COLOUR.transpose(0, 3, 1, 2).reshape(40, -1), image(16, 16, 3, first=True)),
        (np.rint(GREY[..., 0] * 10).astype(np.uint8), image(20, 20, 1, 10)),
        (np.random.default_rng(0).integers(0, 256, (12, 9, 7), np.uint8), image(9, 7, 1, 255)),
        (np.random.default_rng(0).integers(0, 256, (12, 4, 9, 3), np.uint8), image(4, 9, 3, 255)),
        (np.zeros((3, 9, 7), np.uint8), image(9, 7, 1, 255)),
    ],
)
def test_pictures_of_any_layout_and_scale_are_recognised(samples: NDArray[Any], layout: SampleLayout) -> None:
    found, note = layout_of(samples)
    assert found == layout
    assert f"pictures of {layout.width} x {layout.height} pixels" in note


def series(kind: str) -> NDArray[np.float64]:
    rng = np.random.default_rng(0)
    at = np.linspace(0, 1, 256)
    if kind == "walks":
        return np.asarray(rng.normal(size=(200, 256)).cumsum(axis=1) + 100)
    if kind == "waves":
        return np.asarray(1 + np.sin(2 * np.pi * (at * rng.uniform(1, 20, (200, 1)) + rng.random((200, 1)))))
    peaks = zip(rng.random(12), rng.uniform(0.01, 0.1, 12), strict=True)
    waves = [rng.random((200, 1)) * np.exp(-(((at - middle) / width) ** 2)) for middle, width in peaks]
    return np.asarray(sum(waves), np.float64)


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        (load_wine().data, "by their shape"),
        (load_breast_cancer().data[:, :25], "by their shape"),
        (np.abs(np.random.default_rng(0).normal(size=(200, 64))), "not alike"),
        (np.random.default_rng(0).integers(0, 256, (200, 784), np.uint8), "not alike"),
        (np.random.default_rng(0).random((100, 28, 28)), "not alike"),
        (np.tile(load_wine().data, (1, 5))[:, :64], "not alike"),
        (np.maximum(np.random.default_rng(0).random((500, 900)) - 0.98, 0), "not alike"),
        (np.random.default_rng(0).random((200, 5)) @ np.random.default_rng(1).random((5, 64)), "not alike"),
        (series("walks"), "not alike"),
        (series("waves"), "not alike"),
        (series("spectra"), "not alike"),
        (GREY[..., 0] - 0.5, "negative"),
        (GREY[:9].reshape(9, -1), "pools of 10"),
        (np.zeros((20, 64)), "not alike"),
        (np.zeros((20, 8, 8, 8, 2), np.uint8), "by their shape"),
        (np.zeros((20, 14, 14, 8), np.uint8), "by their shape"),
    ],
)
def test_other_values_are_vectors_and_the_note_says_why(samples: NDArray[Any], said: str) -> None:
    layout, note = layout_of(samples)
    assert layout.kind == VECTOR
    assert not layout.height
    assert said in note


@pytest.mark.parametrize("given", ["data", "images"])
def test_digits_of_scikit_learn_are_pictures_flat_or_not(given: str) -> None:
    assert layout_of(load_digits()[given])[0] == image(8, 8, 1, 16)


def test_texts_are_texts() -> None:
    assert layout_of(np.array(["a", "b"], object))[0] == SampleLayout(kind=SampleKind.SAMPLE_KIND_TEXT)


@pytest.mark.parametrize("channels", [1, 3])
def test_every_layout_of_a_picture_is_displayed_alike(channels: int) -> None:
    last = COLOUR[..., :channels]
    expected = as_bytes(last)
    first = last.transpose(0, 3, 1, 2)
    for samples in (expected, expected.transpose(0, 3, 1, 2), last, first, last.reshape(40, -1), last * 4_095):
        layout, _ = layout_of(samples)
        assert np.array_equal(as_pictures(samples, layout), expected)
        shown = as_picture(samples[5], layout)
        assert np.array_equal(shown, expected[5, :, :, 0] if channels == 1 else expected[5])


def test_values_beyond_full_scale_are_displayed_as_black_or_white() -> None:
    shown = as_picture(np.array([[-1, 0.5], [1, 2]], np.float32), image(2, 2, 1))
    assert shown.tolist() == [[0, 128], [255, 255]]


@pytest.mark.parametrize(
    ("shape", "dtype", "layout"),
    [
        ((28, 28), "uint8", image(28, 28, 1, 255)),
        ((9, 8, 3), "uint8", image(9, 8, 3, 255)),
        ((784,), "uint8", SampleLayout(kind=VECTOR, on_one_scale=True)),
        ((28, 28), "float32", SampleLayout(kind=VECTOR, on_one_scale=True)),
        ((2, 9, 8, 3), "uint8", SampleLayout(kind=VECTOR, on_one_scale=True)),
    ],
)
def test_pools_without_a_layout_are_read_by_shape_and_dtype(
    shape: tuple[int, ...], dtype: str, layout: SampleLayout
) -> None:
    assert layout_of_shape(shape, dtype) == layout


def embeddings() -> NDArray[np.float64]:
    rng = np.random.default_rng(0)
    return np.asarray(rng.normal(size=(300, 40)) * rng.lognormal(0, 0.5, 40))


TIME = np.random.default_rng(1).integers(1_600_000_000, 1_700_000_000, (300, 1)).astype(np.float64)


@pytest.mark.parametrize(
    ("samples", "on_one_scale"),
    [
        (load_wine().data, False),
        (load_breast_cancer().data, False),
        (embeddings(), True),
        (np.concatenate([embeddings(), TIME], axis=1), False),
        (np.maximum(np.random.default_rng(0).random((500, 901)) - 0.98, 0) * np.logspace(0, 3, 901), True),
        (PCA(50).fit_transform(load_digits().data), True),
        (np.zeros((20, 3)), True),
    ],
)
def test_columns_of_different_units_are_told_from_vectors_of_one_scale(
    samples: NDArray[Any], on_one_scale: bool
) -> None:
    layout, note = layout_of(samples)
    assert layout.on_one_scale == on_one_scale
    assert ("of one scale" in note) == on_one_scale
