"""Combine panels into one picture, with a legend and a description in words. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

from labelloop_cli.reporting.svg import legend
from labelloop_cli.reporting.svg.axes import Axis
from labelloop_cli.reporting.svg.markup import FONT, SMALL, element, number, text_element, words
from labelloop_cli.reporting.svg.panels import Box, Drawn, Panel, draw, margin
from labelloop_cli.reporting.svg.said import described

_APART = 24.0  # space between panels side by side


def picture(title: str, panels: Sequence[Panel], *, width: float, beside: bool = False) -> str:
    """Draw panels as one SVG element; the same panels always give the same text.

    Args:
        title: Title for screen readers, which also get a description of all marks.
        width: Width in the picture's own units, in which text is 12 high; the page scales the picture to its container.
        beside: Whether panels are side by side; otherwise they are stacked and share their x axis.
    """
    panels = panels or [Panel([], Axis(), Axis())]
    placed = legend.entries([mark for panel in panels for mark in panel.marks if not panel.empty], width)
    top = legend.height(placed)
    drawn = _beside(panels, top, width) if beside else _stacked(panels, top, width)
    texts = [each for one in drawn for each in one.elements]
    bottom = max(one.bottom for one in drawn)
    if missing := sum(panel.left_out for panel in panels):
        bottom += SMALL + 6
        texts.append(text_element(_left_out(missing), 0, bottom - 4, size=SMALL))
    return element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "viewBox": f"0 0 {number(width)} {number(bottom)}",
            "role": "img",
            "font-size": FONT,
            "fill": "currentColor",
        },
        element("title", {}, words(title)),
        element("desc", {}, words(" ".join(described(panel) for panel in panels))),
        *legend.draw(placed),
        *texts,
    )


def _stacked(panels: Sequence[Panel], top: float, width: float) -> list[Drawn]:
    left = max(margin(panel, width) for panel in panels)
    along_x = [value for panel in panels for value in panel.values("x")]
    last = next((panel for panel in reversed(panels) if not panel.empty), panels[-1])
    drawn: list[Drawn] = []
    for panel in panels:
        box = Box(0.0, left, width, drawn[-1].bottom if drawn else top)
        drawn.append(draw(panel, box, along_x, with_x=panel is last))
    return drawn


def _beside(panels: Sequence[Panel], top: float, width: float) -> list[Drawn]:
    each = (width - _APART * (len(panels) - 1)) / len(panels)
    lefts = [i * (each + _APART) for i in range(len(panels))]
    return [
        draw(panel, Box(left, left + margin(panel, each), left + each, top), panel.values("x"))
        for left, panel in zip(lefts, panels, strict=True)
    ]


def _left_out(count: int) -> str:
    return f"{count:,} {'value has' if count == 1 else 'values have'} no place here: not finite, or not above 0"
