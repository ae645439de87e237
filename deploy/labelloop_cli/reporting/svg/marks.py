"""Draw the marks of a panel: lines, bands, dots, spans, bars and rules. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal, Protocol

from labelloop_cli.reporting.svg.markup import element, path, plain, words
from labelloop_cli.reporting.svg.scales import Scale, drawable

Values = Sequence[float]
Place = tuple[float, float]

SWATCH = 20.0  # width of a mark in the legend
_FAINT = "0.16"  # opacity of a band
_LONE = 3.0  # half the width of a band at a single point


@dataclass(frozen=True)
class Frame:
    """The scales of a panel; ``names`` are those of the values 0, 1, 2 and so on along x, if these are categories."""

    x: Scale
    y: Scale
    names: Sequence[str] = ()

    def place(self, x: float, y: float) -> Place | None:
        """Return the place of a point; None if it is not finite, or not above 0 on a logarithmic scale."""
        if not (drawable(x, log=self.x.log) and drawable(y, log=self.y.log)):
            return None
        return self.x.at(x), self.y.at(y)

    def runs(self, *curves: tuple[Values, Values]) -> Iterator[list[list[Place]]]:
        """Yield, for each stretch of points without a gap in any of ``curves``, the places of each curve."""
        places = [[self.place(x, y) for x, y in zip(*curve, strict=True)] for curve in curves]
        for gap, run in groupby(zip(*places, strict=True), key=lambda each: None in each):
            if not gap:
                yield [[place for place in each if place] for each in zip(*run, strict=True)]

    def named(self, x: float) -> str:
        return self.names[int(x)] if self.names else plain(x)


class Mark(Protocol):
    """A mark of a panel; ``label`` is its name in the legend, which omits marks without one."""

    @property
    def label(self) -> str: ...

    def points(self) -> list[tuple[float, float]]:
        """Return the values that the panel must have room for."""

    def draw(self, frame: Frame) -> list[str]:
        """Return the SVG elements of the mark."""

    def swatch(self, x: float, y: float) -> list[str]:
        """Draw the mark's swatch for the legend, starting at ``x`` and centred on the height ``y``."""


@dataclass(frozen=True)
class Line:
    """A line from point to point, broken at missing values; ``dotted`` marks each point."""

    x: Values
    y: Values
    colour: str
    label: str = ""
    width: float = 1.8
    dash: str = ""
    dotted: bool = False

    def points(self) -> list[tuple[float, float]]:
        return list(zip(self.x, self.y, strict=True))

    def draw(self, frame: Frame) -> list[str]:
        drawn = []
        for (run,) in frame.runs((self.x, self.y)):
            if len(run) > 1:
                drawn.append(self._through(thinned(run)))
            if self.dotted or len(run) == 1:
                drawn += [self._dot(place) for place in run]
        return drawn

    def swatch(self, x: float, y: float) -> list[str]:
        line = self._through([(x, y), (x + SWATCH, y)])
        return [line, self._dot((x + SWATCH / 2, y))] if self.dotted else [line]

    def _through(self, places: Sequence[Place]) -> str:
        return stroke(path(places), self.colour, self.width, self.dash)

    def _dot(self, place: Place) -> str:
        return dot(place, 1.4 * self.width, self.colour)


@dataclass(frozen=True)
class Band:
    """The area between two curves, ``low`` and ``high``."""

    x: Values
    low: Values
    high: Values
    colour: str
    label: str = ""

    def points(self) -> list[tuple[float, float]]:
        return [*zip(self.x, self.low, strict=True), *zip(self.x, self.high, strict=True)]

    def draw(self, frame: Frame) -> list[str]:
        return [self._area(_outline(low, high)) for low, high in frame.runs((self.x, self.low), (self.x, self.high))]

    def swatch(self, x: float, y: float) -> list[str]:
        return [self._area([(x, y - 5), (x + SWATCH, y - 5), (x + SWATCH, y + 5), (x, y + 5)])]

    def _area(self, outline: Sequence[Place]) -> str:
        return element("path", {"d": f"{path(outline)}Z", "fill": self.colour, "fill-opacity": _FAINT})


@dataclass(frozen=True)
class Dots:
    """A dot for each point, with one radius for all or one each; hovering shows the values."""

    x: Values
    y: Values
    colour: str
    label: str = ""
    radii: float | Values = 4.0

    def points(self) -> list[tuple[float, float]]:
        return list(zip(self.x, self.y, strict=True))

    def draw(self, frame: Frame) -> list[str]:
        radii = [self.radii] * len(self.x) if isinstance(self.radii, float) else self.radii
        places = [frame.place(x, y) for x, y in self.points()]
        return [
            dot(place, radius, self.colour, f"{frame.named(x)}: {plain(y)}")
            for place, radius, (x, y) in zip(places, radii, self.points(), strict=True)
            if place
        ]

    def swatch(self, x: float, y: float) -> list[str]:
        return [dot((x + SWATCH / 2, y), 4.0, self.colour)]


@dataclass(frozen=True)
class Spans:
    """A vertical stroke at each of ``x`` from ``low`` to ``high``, to show intervals."""

    x: Values
    low: Values
    high: Values
    colour: str
    label: str = ""

    def points(self) -> list[tuple[float, float]]:
        return [*zip(self.x, self.low, strict=True), *zip(self.x, self.high, strict=True)]

    def draw(self, frame: Frame) -> list[str]:
        return [
            stroke(path(ends), self.colour, 1.6)
            for run in frame.runs((self.x, self.low), (self.x, self.high))
            for ends in zip(*run, strict=True)
        ]

    def swatch(self, x: float, y: float) -> list[str]:
        middle = x + SWATCH / 2
        return [stroke(path([(middle, y - 6), (middle, y + 6)]), self.colour, 1.6)]


@dataclass(frozen=True)
class Bars:
    """Bars from 0 to ``heights``, each ``width`` wide in units of x; hovering shows the values."""

    x: Values
    heights: Values
    width: float
    colour: str
    label: str = ""
    offset: float = 0.0  # to the right of x, beside other bars

    def points(self) -> list[tuple[float, float]]:
        tops = list(zip(self.x, self.heights, strict=True))
        return tops + [(x, 0.0) for x, height in tops if drawable(height)]

    def draw(self, frame: Frame) -> list[str]:
        drawn = []
        for x, height in zip(self.x, self.heights, strict=True):
            left = x + self.offset - self.width / 2
            corners = frame.place(left, height), frame.place(left + self.width, 0.0)
            if corners[0] and corners[1]:
                drawn.append(_bar(*corners[0], *corners[1], self.colour, f"{frame.named(x)}: {plain(height)}"))
        return drawn

    def swatch(self, x: float, y: float) -> list[str]:
        return [_bar(x + 4, y - 5, x + SWATCH - 4, y + 5, self.colour, "")]


@dataclass(frozen=True)
class Rule:
    """A line across the panel at one value of an axis, as a reference for the other marks."""

    axis: Literal["x", "y"]
    at: float
    colour: str
    label: str = ""
    width: float = 1.2
    dash: str = ""

    def points(self) -> list[tuple[float, float]]:
        return []

    def draw(self, frame: Frame) -> list[str]:
        scale = getattr(frame, self.axis)
        if not drawable(self.at, log=scale.log):
            return []
        at, other = scale.at(self.at), frame.y if self.axis == "x" else frame.x
        ends = [(at, each) if self.axis == "x" else (each, at) for each in (other.start, other.stop)]
        return [stroke(path(ends), self.colour, self.width, self.dash)]

    def swatch(self, x: float, y: float) -> list[str]:
        return [stroke(path([(x, y), (x + SWATCH, y)]), self.colour, self.width, self.dash)]


def stroke(d: str, colour: str, width: float, dash: str = "") -> str:
    attributes: dict[str, str | float] = {"d": d, "fill": "none", "stroke": colour, "stroke-width": width}
    joined: dict[str, str | float] = {"stroke-linejoin": "round"}
    return element("path", attributes | joined | ({"stroke-dasharray": dash} if dash else {}))


def dot(place: Place, radius: float, colour: str, hint: str = "") -> str:
    attributes: dict[str, str | float] = {"cx": place[0], "cy": place[1], "r": radius, "fill": colour}
    return element("circle", attributes, *_hint(hint))


def thinned(places: Sequence[Place]) -> list[Place]:
    """Thin out places that share one unit of width to the first, the highest, the lowest and the last of them.

    The line through them looks the same.
    """
    kept: list[Place] = []
    for _, column in groupby(places, key=lambda place: int(place[0])):
        within = list(column)
        ends = {0, len(within) - 1}
        heights = range(len(within))
        ends |= {min(heights, key=lambda i: within[i][1]), max(heights, key=lambda i: within[i][1])}
        kept += [within[i] for i in sorted(ends)]
    return kept


def _outline(low: Sequence[Place], high: Sequence[Place]) -> list[Place]:
    """Return the outline of the area between two curves; a single point gets some width."""
    if len(low) == 1:
        (x, bottom), (_, top) = low[0], high[0]
        return [(x - _LONE, bottom), (x + _LONE, bottom), (x + _LONE, top), (x - _LONE, top)]
    return [*high, *reversed(low)]


def _bar(left: float, top: float, right: float, bottom: float, colour: str, hint: str) -> str:
    y, height = min(top, bottom), abs(bottom - top)
    attributes: dict[str, str | float] = {"x": left, "y": y, "width": right - left, "height": height, "fill": colour}
    return element("rect", attributes, *_hint(hint))


def _hint(text: str) -> list[str]:
    return [element("title", {}, words(text))] if text else []
