"""Samples as people see them: pictures of any layout, rows of tables, and other values."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
from labelloop.events.v1.events_pb2 import SampleKind, SampleLayout, TableColumn
from numpy.typing import NDArray
from PIL import Image

from oracle_svc.samples.encoding import picture_of

PIXELS = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
FIRST = SampleLayout(
    kind=SampleKind.SAMPLE_KIND_IMAGE, height=9, width=7, channels=3, channels_first=True, full_scale=255
)
ROW = SampleLayout(
    kind=SampleKind.SAMPLE_KIND_ROW,
    columns=[TableColumn(name="größe"), TableColumn(name="colour", categories=["red", "<b>"]), TableColumn(name="n")],
)


def shown(sample: NDArray[Any], layout: SampleLayout | None = None) -> NDArray[Any]:
    picture = picture_of(sample, layout)
    assert picture.media_type == "image/png"
    return np.asarray(Image.open(io.BytesIO(picture.content)))


def test_pictures_are_shown_whatever_their_layout_is() -> None:
    assert np.array_equal(shown(PIXELS), PIXELS)
    assert np.array_equal(shown(PIXELS.transpose(2, 0, 1), FIRST), PIXELS)
    assert np.array_equal(shown(PIXELS.transpose(2, 0, 1).ravel(), FIRST), PIXELS)
    assert np.array_equal(shown(PIXELS[:, :, :1]), PIXELS[:, :, 0])
    assert np.array_equal(shown(PIXELS[:, :, 0]), PIXELS[:, :, 0])


@pytest.mark.parametrize("sample", [PIXELS[:, :, :2], PIXELS.astype(np.float32), PIXELS.ravel()])
def test_other_values_are_sent_as_they_are(sample: NDArray[Any]) -> None:
    picture = picture_of(sample)
    assert picture.media_type == "application/x-npy"
    assert np.array_equal(np.load(io.BytesIO(picture.content)), sample)


def test_a_row_is_shown_by_column() -> None:
    picture = picture_of(np.array([0.1, 1, np.nan], np.float32), ROW)
    assert picture.media_type == "application/json"
    assert json.loads(picture.content) == {"größe": 0.1, "colour": "<b>", "n": None}
    assert json.loads(picture_of(np.array([3, np.nan, 1e15], np.float32), ROW).content) == {
        "größe": 3,
        "colour": None,
        "n": 10**15,
    }
