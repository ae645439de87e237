"""What a panel shows, in words, for those who do not see it. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from labelloop_cli.reporting.svg.marks import Bars, Dots, Line, Mark, Rule
from labelloop_cli.reporting.svg.markup import plain
from labelloop_cli.reporting.svg.panels import NOTHING, Panel
from labelloop_cli.reporting.svg.scales import drawable

_LISTED_MAX = 12  # values of a mark; of more the first, the last, the least and the greatest


def described(panel: Panel) -> str:
    """One sentence a mark."""
    shown = ". ".join(part for part in (panel.title, _axes(panel)) if part)
    told = [f"{shown}."] if shown else []
    if panel.empty:
        return " ".join([*told, f"{NOTHING.capitalize()}."])
    return " ".join([*told, *_sentences(panel)])


def _axes(panel: Panel) -> str:
    if panel.x.title and panel.y.title:
        return f"{panel.y.title} by {panel.x.title}"
    return panel.x.title or panel.y.title


def _sentences(panel: Panel) -> Iterator[str]:
    for mark in panel.marks:
        said = _said(panel, mark)
        if said:
            yield f"{mark.label}: {said}." if mark.label else f"{said[0].upper()}{said[1:]}."


def _said(panel: Panel, mark: Mark) -> str:
    if isinstance(mark, Rule):
        return f"at {plain(mark.at)}"
    if not isinstance(mark, Line | Dots | Bars):
        return ""
    ys = mark.heights if isinstance(mark, Bars) else mark.y
    points = [(x, y) for x, y in zip(mark.x, ys, strict=True) if drawable(x) and drawable(y)]
    names = panel.x.names
    told = [f"{plain(y)} at {names[int(x)] if names else plain(x)}" for x, y in points]
    if len(told) <= _LISTED_MAX:
        return ", ".join(told)
    by_value = sorted(range(len(points)), key=lambda i: points[i][1])
    return (
        f"{len(points):,} points, from {told[0]} to {told[-1]}, least {told[by_value[0]]}, "
        f"greatest {told[by_value[-1]]}"
    )
