"""Encode samples for display to annotators, as PNG, text, JSON or .npy. Pure functions."""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from typing import Any

import numpy as np
from labelloop.domain.sample_layout import as_picture, is_shown, layout_of_shape
from labelloop.events.v1.events_pb2 import SampleKind, SampleLayout, TableColumn
from numpy.typing import NDArray
from PIL import Image


@dataclass(frozen=True)
class Picture:
    """An encoded sample."""

    media_type: str
    content: bytes

    @property
    def sha256(self) -> str:
        return sha256(self.content).hexdigest()


def picture_of(sample: NDArray[Any] | str, layout: SampleLayout | None = None) -> Picture:
    """Encode a sample for people: pictures as PNG, texts as they are, rows of tables as JSON, anything else as .npy.

    Without a ``layout``, bytes ``[h, w]`` and ``[h, w, channels]`` are pictures. Pictures of 2 channels or of more than
    4 have no usual colours, and are encoded as .npy too.
    """
    if isinstance(sample, str):
        return Picture("text/plain; charset=utf-8", sample.encode())
    layout = layout or layout_of_shape(sample.shape, sample.dtype.name)
    if layout.kind == SampleKind.SAMPLE_KIND_ROW:
        return Picture("application/json", json.dumps(row_of(sample, layout), ensure_ascii=False).encode())
    output = BytesIO()
    if is_shown(layout):
        Image.fromarray(np.ascontiguousarray(as_picture(sample, layout))).save(output, "PNG")
        return Picture("image/png", output.getvalue())
    np.save(output, sample, allow_pickle=False)
    return Picture("application/x-npy", output.getvalue())


def row_of(sample: NDArray[Any], layout: SampleLayout) -> dict[str, float | str | None]:
    """Return a row of a table by column: numbers, names of categories, and None for what is missing."""
    return {column.name: _cell(value, column) for column, value in zip(layout.columns, sample.ravel(), strict=True)}


def _cell(value: np.float32, column: TableColumn) -> float | str | None:
    if np.isnan(value):
        return None
    if column.categories:
        return column.categories[int(value)]
    number = float(str(value))  # the shortest that means the same float32: 0.1, not 0.10000000149
    return int(number) if number.is_integer() else number
