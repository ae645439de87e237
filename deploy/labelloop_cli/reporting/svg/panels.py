"""Draw one panel: its axes, grid, titles and marks. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from labelloop_cli.reporting.svg.axes import Axis, Tick, names_x, overhang, ticks_x, ticks_y
from labelloop_cli.reporting.svg.marks import Band, Frame, Mark, Rule
from labelloop_cli.reporting.svg.markup import SMALL, element, path, shortened, text_element, text_width, wrapped
from labelloop_cli.reporting.svg.scales import drawable

NOTHING = "nothing measured yet"
_LINE = 16.0  # height of a line of text
_RIGHT = 14.0  # space to the right of the plot
_GRID, _BASE, _FAINT = "0.12", "0.5", "0.8"  # opacities


@dataclass(frozen=True)
class Panel:
    """Marks and their axes; ``height`` is that of the plot, without the texts around it."""

    marks: Sequence[Mark]
    x: Axis
    y: Axis
    title: str = ""
    height: float = 210.0

    def values(self, axis: str) -> list[float]:
        """Return the values that ``axis`` must cover: those of points that can be drawn, and of rules."""
        rules = [mark.at for mark in self.marks if isinstance(mark, Rule) and mark.axis == axis]
        return [*rules, *(point[axis == "y"] for point in self._points() if self.holds(*point))]

    @property
    def left_out(self) -> int:
        """Number of points and rules that cannot be drawn."""
        logs = {"x": self.x.log, "y": self.y.log}
        rules = [mark for mark in self.marks if isinstance(mark, Rule) and not drawable(mark.at, log=logs[mark.axis])]
        return len(rules) + sum(not self.holds(*point) for point in self._points())

    @property
    def empty(self) -> bool:
        return not any(self.holds(*point) for point in self._points())

    def holds(self, x: float, y: float) -> bool:
        """Return whether a point can be drawn."""
        return drawable(x, log=self.x.log) and drawable(y, log=self.y.log)

    def _points(self) -> list[tuple[float, float]]:
        return [point for mark in self.marks for point in mark.points()]


def margin(panel: Panel, width: float) -> float:
    """Return the room for texts to the left of the plot, in a panel that is ``width`` wide including it."""
    if panel.empty:
        return 0.0
    scale = panel.y.along_y(panel.values("y"), panel.height, 0)
    left = max(text_width(tick.text, SMALL) for tick in ticks_y(panel.y, scale)) + 8
    return max(left, overhang(panel.x, width - left - _RIGHT))


@dataclass(frozen=True)
class Box:
    """The area of a panel: from ``left`` to ``right``, below ``top``. The plot begins at ``plot``."""

    left: float
    plot: float
    right: float
    top: float


@dataclass(frozen=True)
class Drawn:
    """The SVG elements of a panel, and their bottom edge."""

    elements: list[str]
    bottom: float


def draw(panel: Panel, box: Box, along_x: Sequence[float], *, with_x: bool = True) -> Drawn:
    """Draw a panel; ``along_x`` are the values that the x axis covers, ``with_x`` is whether that axis gets texts."""
    heads, top = _heads(panel, box)
    bottom, right = top + panel.height, box.right - _RIGHT
    if panel.empty:
        middle = (box.plot + right) / 2, (top + bottom) / 2
        said = text_element(NOTHING, *middle, anchor="middle")
        return Drawn([*heads, _base(box.plot, right, bottom), said], bottom + _LINE)
    scale_x = panel.x.along_x(along_x, box.plot, right)
    frame = Frame(scale_x, panel.y.along_y(panel.values("y"), bottom, top), panel.x.names)
    below, end = _below(panel, box, frame, with_x=with_x)
    bands_first = sorted(panel.marks, key=lambda mark: not isinstance(mark, Band))
    marks = [each for mark in bands_first for each in mark.draw(frame)]
    return Drawn([*heads, *_rows(panel, frame, right), *below, _base(box.plot, right, bottom), *marks], end)


def _heads(panel: Panel, box: Box) -> tuple[list[str], float]:
    """Draw the titles of the panel and of its y axis; return them and the top of the plot."""
    lines = wrapped(panel.title, box.right - box.left) if panel.title else []
    drawn = [text_element(line, box.left, box.top + _LINE * (i + 1) - 4) for i, line in enumerate(lines)]
    top = box.top + _LINE * len(lines)
    if panel.y.title:
        title = shortened(panel.y.title, box.right - box.left, SMALL)
        drawn.append(_faint(text_element(title, box.left, top + _LINE - 4, size=SMALL, full=panel.y.title)))
        top += _LINE
    return drawn, top + 7


def _rows(panel: Panel, frame: Frame, right: float) -> list[str]:
    """Draw the horizontal grid lines and the texts of the y axis."""
    ticks = ticks_y(panel.y, frame.y)
    left = min(frame.x.start, frame.x.stop)
    texts = [text_element(t.text, left - 6, t.at + 0.35 * SMALL, anchor="end", size=SMALL) for t in ticks]
    return [_grid(path([(left, tick.at), (right, tick.at)]) for tick in ticks), _faint(*texts)]


def _below(panel: Panel, box: Box, frame: Frame, *, with_x: bool) -> tuple[list[str], float]:
    """Draw the vertical grid lines and the texts below the x axis; return them and their bottom edge."""
    bottom = frame.y.start
    if panel.x.names:
        names = names_x(panel.x, frame.x)
        return [_faint(*(_name(tick, bottom, names.angle) for tick in names.ticks))], bottom + names.depth + 12
    ticks = ticks_x(panel.x, frame.x, box.left, box.right)
    grid = _grid(path([(tick.at, frame.y.stop), (tick.at, bottom)]) for tick in ticks)
    if not with_x:
        return [grid], bottom + 10
    y = bottom + _LINE
    texts = [text_element(t.text, t.middle, y, anchor="middle", size=SMALL) for t in ticks if t.text]
    if not panel.x.title:
        return [grid, _faint(*texts)], y + 6
    middle = (frame.x.start + frame.x.stop) / 2
    title = shortened(panel.x.title, 2 * min(middle - box.left, box.right - middle), SMALL)
    texts.append(text_element(title, middle, y + _LINE, anchor="middle", size=SMALL, full=panel.x.title))
    return [grid, _faint(*texts)], y + _LINE + 6


def _name(tick: Tick, bottom: float, angle: float) -> str:
    if not angle:
        return text_element(tick.text, tick.at, bottom + _LINE, anchor="middle", size=SMALL)
    x = tick.at + 0.35 * SMALL
    return text_element(tick.text, x, bottom + SMALL, anchor="end", size=SMALL, full=tick.full, angle=-angle)


def _grid(paths: Iterable[str]) -> str:
    return element("path", {"d": "".join(paths), "stroke": "currentColor", "stroke-opacity": _GRID})


def _base(left: float, right: float, y: float) -> str:
    d = path([(left, y), (right, y)])
    return element("path", {"d": d, "stroke": "currentColor", "stroke-opacity": _BASE})


def _faint(*texts: str) -> str:
    return element("g", {"fill-opacity": _FAINT}, *texts)
