"""Render self-contained HTML pages from templates, with pictures as data URIs."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from labelloop.domain.class_names import shortened
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


def render(template: str, **values: Any) -> str:
    """Render ``template`` with ``values``; a value that is not given is an error."""
    environment = Environment(
        loader=PackageLoader("labelloop_cli.reporting"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["percent"] = percent
    environment.filters["shortened"] = shortened
    return environment.get_template(template).render(**values)
