"""Scattering features under a fit: classes that changes of a picture leave alone, and classes that they do not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from scorer_svc.features.patches import learn_patches
from scorer_svc.features.scattering import learn_scattering
from scorer_svc.models.graph import Graph
from trainer_svc.model.adam_softmax import count_correct, with_bias
from trainer_svc.model.onnx_export import optional_columns
from trainer_svc.model.regression import fit_regression

Pictures = NDArray[np.uint8]


def handed(count: int, side: int = 16, seed: int = 0) -> tuple[Pictures, NDArray[np.int64]]:
    """Strokes with a foot to the left or to the right, anywhere, of any length: mirror images of each other."""
    rng = np.random.default_rng(seed)
    pictures, kinds = rng.integers(0, 120, (count, side, side)), rng.integers(0, 2, count)
    for picture in pictures:
        top, left, tall, foot = rng.integers((1, 1, 6, 3), (4, 8, 11, 6))
        picture[top : top + tall, left : left + 2] = 230
        picture[top + tall - 2 : top + tall, left : left + foot] = 230
    pictures[kinds == 1] = pictures[kinds == 1][:, :, ::-1]
    return pictures.astype(np.uint8), kinds


def leaning(count: int, side: int = 16, seed: int = 0) -> tuple[Pictures, NDArray[np.int64]]:
    """Bars that lean a few degrees to the left or to the right, by less than copies are turned."""
    rng = np.random.default_rng(seed)
    kinds, place = rng.integers(0, 2, count), rng.uniform(-2, 2, count)
    lean = np.tan(np.radians(rng.uniform(1, 6, count))) * (2 * kinds - 1)
    down, across = np.mgrid[0:side, 0:side] - (side - 1) / 2
    apart = np.abs(across - place[:, None, None] - lean[:, None, None] * down)
    pictures = 160 * np.clip(2.5 - apart, 0, 1) + rng.uniform(0, 90, (count, side, side))
    return pictures.astype(np.uint8), kinds


def six_or_nine() -> tuple[Pictures, NDArray[np.int64]]:
    """Sixes and nines that people wrote, of 8 x 8 pixels: about the same, upside down."""
    from sklearn.datasets import load_digits

    values, digits = load_digits(return_X_y=True)
    chosen = np.isin(digits, (6, 9))
    return (values[chosen].reshape(-1, 8, 8) * 15.9).astype(np.uint8), (digits[chosen] == 9).astype(np.int64)


POOLS = {"handed": handed(500), "six or nine": six_or_nine()}


def right(values: NDArray[np.float32], kinds: NDArray[np.int64], count: int, optional: int = 0) -> float:
    """The share of pictures without a label that fits on ``count`` labels get right, over several draws of these."""
    features, labels, found = with_bias(values), torch.from_numpy(kinds), []
    for seed in range(6):
        order = np.random.default_rng(seed).permutation(len(kinds))
        told, others = order[:count], order[count:]
        fitted = fit_regression(features[told], labels[told], 2, seed=seed, optional=optional)
        judged = count_correct(fitted.weights, features[others], labels[others])
        found.append(judged.correct / judged.total)
    return float(np.mean(found))


def learned(pictures: Pictures) -> tuple[NDArray[np.float32], int]:
    """Scattering features, and how many of the last a fit may leave out."""
    data = learn_scattering(pictures, 0)
    values = Graph(data, "g", field="f").answers(pictures)
    return values, optional_columns(data, values.shape[1])


@pytest.mark.parametrize("name", POOLS)
def test_classes_that_a_larger_change_of_the_picture_would_swap_lose_nothing(name: str) -> None:
    """Against the same without the columns of invariant neighbours, and against patches."""
    pictures, kinds = POOLS[name]
    values, optional = learned(pictures)
    assert optional
    chosen = right(values, kinds, 12, optional)
    assert chosen >= right(values[:, :-optional], kinds, 12) - 0.005
    patches = Graph(learn_patches(pictures, 0, patch_count=20_000), "p", field="f")
    assert chosen >= right(patches.answers(pictures), kinds, 12)


def test_columns_that_hide_what_tells_classes_apart_are_left_out() -> None:
    """Where a small turn of the picture makes it one of the other class."""
    pictures, kinds = leaning(500)
    values, optional = learned(pictures)
    chosen, whole = right(values, kinds, 40, optional), right(values, kinds, 40)
    assert chosen > whole + 0.01
    assert chosen >= right(values[:, :-optional], kinds, 40) - 0.03
