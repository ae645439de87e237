"""Samples that equal an earlier one, byte by byte."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from oracle_svc.datasets.duplicates import duplicate_count, duplicate_of

PICTURES = np.random.default_rng(0).integers(0, 256, (4, 5, 5), np.uint8)
NAN = np.array([0, 1, np.nan], np.float32)
OTHER_NAN = NAN.copy()
OTHER_NAN.view(np.uint32)[2] |= 1


@pytest.mark.parametrize(
    ("samples", "first"),
    [
        (PICTURES[[0, 1, 0, 2, 1, 0]], [0, 1, 0, 3, 1, 0]),
        (PICTURES, [0, 1, 2, 3]),
        (PICTURES.transpose(0, 2, 1)[[1, 1]], [0, 0]),
        (np.stack([NAN, OTHER_NAN, -NAN * [1, -1, 1]]).astype(np.float32), [0, 0, 0]),
        (np.array(["a", "b", "a", "\ud800"], object), [0, 1, 0, 3]),
        (np.array([[1], [1], [2]], np.uint8), [0, 0, 2]),
    ],
)
def test_each_sample_is_mapped_to_the_first_equal_one(samples: NDArray[Any], first: list[int]) -> None:
    found = duplicate_of(samples)
    assert found.dtype == np.int32
    assert found.tolist() == first
    assert duplicate_count(samples) == len(first) - len(set(first))


def test_the_first_of_random_duplicates_is_found() -> None:
    rows = np.random.default_rng(0).integers(0, 20, (1_000, 1)).astype(np.float32)
    _, first, inverse = np.unique(rows, return_index=True, return_inverse=True)
    assert np.array_equal(duplicate_of(rows), first[inverse.ravel()])
