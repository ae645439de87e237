"""Write SVG elements as text, and estimate how wide a text is. Pure functions."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from html import escape

FONT, SMALL = 12.0, 11.0  # font sizes in units of the picture
_ELLIPSIS = "…"
_WIDTHS = (  # least widths of characters in DejaVu Sans, which is wider than most fonts
    ("ijl'|", 0.3),
    ("frtI.,:;!()[]- ", 0.42),
    ('scxyzvkJ*_/"', 0.6),
    ("w", 0.82),
    ("mMW@%", 1.0),
)


def element(name: str, attributes: dict[str, str | float], *children: str) -> str:
    """Write one element. Values of attributes are escaped; ``children`` are markup and are kept as they are."""
    written = "".join(f' {key}="{_value(value)}"' for key, value in attributes.items())
    return f"<{name}{written}>{''.join(children)}</{name}>" if children else f"<{name}{written}/>"


def text_element(
    text: str, x: float, y: float, *, anchor: str = "start", size: float = FONT, full: str = "", angle: float = 0.0
) -> str:
    """Write ``text`` with its baseline at ``y``; ``full`` is shown on hovering if it differs."""
    attributes: dict[str, str | float] = {"x": x, "y": y}
    if anchor != "start":
        attributes["text-anchor"] = anchor
    if size != FONT:
        attributes["font-size"] = size
    if angle:
        attributes["transform"] = f"rotate({number(angle)} {number(x)} {number(y)})"
    hint = [element("title", {}, words(full))] if full and full != text else []
    return element("text", attributes, words(text), *hint)


def words(text: str) -> str:
    """Escape ``text`` as markup, replacing characters that cannot be printed, among them those XML does not allow."""
    return escape("".join(each if each.isprintable() or each == " " else "\ufffd" for each in text))


def number(value: float) -> str:
    """Format a coordinate, to a tenth of a unit."""
    return f"{round(float(value), 1) + 0.0:.1f}".removesuffix(".0")


def plain(value: float) -> str:
    """Format a value for people to read: to four digits, and to a whole number from 1,000 on."""
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.4g}"


def path(places: Iterable[tuple[float, float]]) -> str:
    """Write the path through ``places``."""
    return "M" + "L".join(f"{number(x)} {number(y)}" for x, y in places)


def text_width(text: str, size: float = FONT) -> float:
    """Estimate a text's width from above, in units of the picture; exact it cannot be, as the page chooses the font."""
    return size * sum(_advance(each) for each in text)


def shortened(text: str, width: float, size: float = FONT) -> str:
    """Return ``text``, or as much of its beginning as fits into ``width``, with an ellipsis."""
    if text_width(text, size) <= width:
        return text
    while text and text_width(text + _ELLIPSIS, size) > width:
        text = text[:-1]
    return text.rstrip() + _ELLIPSIS


def wrapped(text: str, width: float, size: float = FONT) -> list[str]:
    """Break ``text`` into lines, each within ``width``; a longer word is shortened."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer, size) <= width:
            lines[-1] = longer
        else:
            lines.append(shortened(word, width, size))
    return lines


def _value(value: str | float) -> str:
    return words(value) if isinstance(value, str) else number(value)


def _advance(character: str) -> float:
    """Estimate the width of one character in a font of size 1."""
    if unicodedata.combining(character):
        return 0.0
    if unicodedata.east_asian_width(character) in "WF":
        return 1.05
    wider = 0.8 if character.isupper() or not character.isalnum() else 0.64
    return next((width for characters, width in _WIDTHS if character in characters), wider)
