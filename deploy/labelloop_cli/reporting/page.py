"""Render self-contained HTML pages from templates, with pictures as data URIs."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from labelloop.domain.class_names import shortened
from labelloop.domain.proportion import Proportion, rounded_down
from labelloop.trainer.v1.trainer_pb2 import MeasuredAccuracy
from numpy.typing import NDArray
from PIL import Image


@dataclass(frozen=True)
class Tile:
    """A small picture or the beginning of a text, with ``title``, ``note`` and, unless it is empty, ``name`` under it.

    Attributes:
        source: The picture as a data URI; empty for a text.
        text: What is shown of the text; empty for a picture.
    """

    source: str
    title: str
    note: str
    name: str = ""
    text: str = ""


def picture(pixels: NDArray[np.uint8]) -> str:
    """Encode pixels ``[h, w]`` or ``[h, w, 3]`` as the data URI of a PNG."""
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def beginning(text: str, most: int) -> str:
    """Return the first ``most`` characters of a text, with an ellipsis if there are more."""
    return text if len(text) <= most else f"{text[:most]}…"


def percent(share: float | None, digits: int = 2) -> str:
    return "–" if share is None else f"{share * 100:.{digits}f}"


def short(measured: MeasuredAccuracy) -> str:
    """Say a share for a cell of a table; a dash where none was measured."""
    return Proportion(measured.correct, measured.total).short if measured.total else "–"


def render(template: str, **values: Any) -> str:
    """Render ``template`` with ``values``; a value that is not given is an error."""
    environment = Environment(
        loader=PackageLoader("labelloop_cli.reporting"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["percent"] = percent
    environment.filters["lower_bound"] = rounded_down
    environment.filters["short"] = short
    environment.filters["shortened"] = shortened
    return environment.get_template(template).render(**values)
