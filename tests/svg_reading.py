"""Read a chart's SVG: positions of its texts and marks."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from xml.etree import ElementTree

from labelloop_cli.reporting.svg.markup import text_width

_NS = "{http://www.w3.org/2000/svg}"
_ABOVE, _BELOW = 0.78, 0.2  # of a text's size, from its baseline
Place = tuple[float, float]


@dataclass(frozen=True)
class Text:
    """``corners`` are those of its bounding box."""

    said: str
    x: float
    y: float
    corners: tuple[Place, ...]


class Drawing:
    """A parsed chart."""

    def __init__(self, svg: str) -> None:
        self.root = ElementTree.fromstring(svg)
        self.width, self.height = (float(each) for each in self.root.attrib["viewBox"].split()[2:])
        self.texts = [_text(each, float(self.root.attrib["font-size"])) for each in self.all("text")]

    def all(self, name: str) -> Iterator[ElementTree.Element]:
        return self.root.iter(_NS + name)

    def said(self, name: str) -> str:
        """The text of the picture's own ``title`` or ``desc``."""
        return self.root.findtext(_NS + name) or ""

    def text(self, said: str) -> Text:
        (found,) = (text for text in self.texts if text.said == said)
        return found

    def paths(self, colour: str) -> list[list[Place]]:
        """Strokes of a colour: the points that each goes through."""
        return [_places(each.attrib["d"]) for each in self.all("path") if each.get("stroke") == colour]

    def areas(self, colour: str) -> list[list[Place]]:
        return [_places(each.attrib["d"]) for each in self.all("path") if each.get("fill") == colour]

    def dots(self, colour: str) -> list[Place]:
        return [(_at(each, "cx"), _at(each, "cy")) for each in self.all("circle") if each.get("fill") == colour]

    def bars(self, colour: str) -> list[tuple[float, float, float, float]]:
        """Left, top, width, height."""
        found = [each for each in self.all("rect") if each.get("fill") == colour]
        return [(_at(each, "x"), _at(each, "y"), _at(each, "width"), _at(each, "height")) for each in found]

    def places(self) -> Iterator[Place]:
        """Points of all marks."""
        for each in self.all("path"):
            yield from _places(each.attrib["d"])
        for each in self.all("circle"):
            yield from ((_at(each, "cx") + turn * _at(each, "r"), _at(each, "cy")) for turn in (-1, 1))
        for each in self.all("rect"):
            yield _at(each, "x"), _at(each, "y")
            yield _at(each, "x") + _at(each, "width"), _at(each, "y") + _at(each, "height")

    def faults(self) -> list[str]:
        """Texts that overlap, and whatever extends beyond the picture."""
        found = [f"{a.said!r} lies upon {b.said!r}" for a, b in combinations(self.texts, 2) if _meet(a, b)]
        found += [f"{text.said!r} runs out" for text in self.texts if not all(map(self._inside, text.corners))]
        return found + [f"a mark runs out at {place}" for place in self.places() if not self._inside(place)]

    def _inside(self, place: Place) -> bool:
        return -0.5 <= place[0] <= self.width + 0.5 and -0.5 <= place[1] <= self.height + 0.5


def _at(element: ElementTree.Element, name: str) -> float:
    return float(element.attrib[name])


def _places(d: str) -> list[Place]:
    numbers = [float(each) for each in re.findall(r"-?[\d.]+", d)]
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _text(element: ElementTree.Element, size: float) -> Text:
    said, x, y = element.text or "", _at(element, "x"), _at(element, "y")
    size = float(element.get("font-size", size))
    width = text_width(said, size)
    left = x - {"start": 0.0, "middle": width / 2, "end": width}[element.get("text-anchor", "start")]
    box = [(left, y - _ABOVE * size), (left + width, y - _ABOVE * size)]
    box += [(left + width, y + _BELOW * size), (left, y + _BELOW * size)]
    turn = re.match(r"rotate\((\S+) ", element.get("transform", ""))
    angle = math.radians(float(turn.group(1))) if turn else 0.0
    return Text(said, x, y, tuple(_rotated(corner, (x, y), angle) for corner in box))


def _rotated(place: Place, about: Place, angle: float) -> Place:
    x, y = place[0] - about[0], place[1] - about[1]
    sine, cosine = math.sin(angle), math.cos(angle)
    return about[0] + x * cosine - y * sine, about[1] + x * sine + y * cosine


def _meet(a: Text, b: Text) -> bool:
    """Whether two rectangles overlap: if a line separates them, one along a side of either does."""
    sides = [(text.corners[i], text.corners[i + 1]) for text in (a, b) for i in (0, 1)]
    for (x0, y0), (x1, y1) in sides:
        ranges = [[x * (x1 - x0) + y * (y1 - y0) for x, y in text.corners] for text in (a, b)]
        if max(ranges[0]) <= min(ranges[1]) or max(ranges[1]) <= min(ranges[0]):
            return False
    return True
