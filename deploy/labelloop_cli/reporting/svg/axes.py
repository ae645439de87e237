"""Lay out the axes of a panel: range of values, ticks, and the room for their texts. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from labelloop_cli.reporting.svg.markup import SMALL, shortened, text_width
from labelloop_cli.reporting.svg.scales import Scale, drawable, extent, outwards, padded, step_of, tick_texts

_APART = 6.0  # space between adjacent texts
_FEW = 3  # steps between ticks; with fewer, a range may hold no round value at all
_EACH_X, _EACH_Y = 46.0, 25.0  # least room for a tick
_NAME_MAX = 116.0  # greatest length of a turned name
_SLANT = 45.0  # degrees
_EDGE = 0.02  # share of the range of x, left free at both ends


@dataclass(frozen=True)
class Axis:
    """What an axis shows.

    Attributes:
        log: Whether the scale is logarithmic.
        whole: Whether only integers are marked.
        reverse: Whether the axis runs from high to low.
        include: Values that the axis reaches in any case.
        texts: Values to mark, with their texts, instead of round values.
        names: Names of the values 0, 1, 2 and so on, for categories.
    """

    title: str = ""
    log: bool = False
    whole: bool = False
    reverse: bool = False
    include: Sequence[float] = ()
    texts: Mapping[float, str] = field(default_factory=dict)
    names: Sequence[str] = ()

    def along_x(self, values: Iterable[float], left: float, right: float) -> Scale:
        """Scale from left to right, with a little room at each end that is not a value of ``include``."""
        if self.names:
            return Scale(-0.5, len(self.names) - 0.5, left, right)
        low, high = self._extent(values)
        wider = padded(low, high, _EDGE, log=self.log)
        low, high = low if low in self.include else wider[0], high if high in self.include else wider[1]
        start, stop = (right, left) if self.reverse else (left, right)
        return Scale(low, high, start, stop, self.log)

    def along_y(self, values: Iterable[float], bottom: float, top: float) -> Scale:
        """Scale from the bottom upwards, to round values at both ends, or with a little room if logarithmic."""
        low, high = self._extent(values)
        if self.log:
            return Scale(*padded(low, high, 2 * _EDGE, log=True), bottom, top, log=True)
        step = step_of(low, high, int((bottom - top) / _EACH_Y), whole=self.whole)
        return Scale(*outwards(low, high, step), bottom, top, step=step)

    def _extent(self, values: Iterable[float]) -> tuple[float, float]:
        found = [each for each in (*values, *self.include) if drawable(each, log=self.log)]
        return extent(found, log=self.log, whole=self.whole)


@dataclass(frozen=True)
class Tick:
    """A marked value.

    Attributes:
        at: Position along the axis.
        text: Text, empty if there is no room for it.
        middle: Position of the text's middle.
        full: The full text, if ``text`` is shortened.
    """

    at: float
    text: str
    middle: float
    full: str = ""


def ticks_y(axis: Axis, scale: Scale) -> list[Tick]:
    values = scale.ticks(int((scale.start - scale.stop) / _EACH_Y), whole=axis.whole)
    texts = tick_texts(values, log=axis.log)
    return [Tick(scale.at(value), text, scale.at(value)) for value, text in zip(values, texts, strict=True)]


def ticks_x(axis: Axis, scale: Scale, left: float, right: float) -> list[Tick]:
    """Mark as many round values as have room for their texts between ``left`` and ``right``.

    An axis with ``texts`` gets those instead, as far as they have room.
    """
    if axis.texts:
        own = {value: text for value, text in axis.texts.items() if scale.low <= value <= scale.high}
        return _spaced(own, scale, left, right)
    found: list[Tick] = []
    for most in range(max(_FEW, int(abs(scale.stop - scale.start) / _EACH_X)), _FEW - 1, -1):
        values = scale.ticks(most, whole=axis.whole)
        found = _spaced(dict(zip(values, tick_texts(values, log=scale.log), strict=True)), scale, left, right)
        if all(tick.text for tick in found):
            break
    return found


def _spaced(texts: Mapping[float, str], scale: Scale, left: float, right: float) -> list[Tick]:
    """Set texts from left to right; move those at the ends inwards, and omit those that would touch the one before."""
    ticks, free = [], -math.inf
    for at, text in sorted((scale.at(value), text) for value, text in texts.items()):
        half = text_width(text, SMALL) / 2
        middle = max(left + half, min(at, right - half))
        fits = middle - half >= free
        ticks.append(Tick(at, text if fits else "", middle))
        free = middle + half + _APART if fits else free
    return ticks


@dataclass(frozen=True)
class Names:
    """Names of categories below the axis, at ``angle`` degrees (0 is level); ``depth`` is the height they take."""

    ticks: list[Tick]
    angle: float
    depth: float


def names_x(axis: Axis, scale: Scale) -> Names:
    """Set names level if all have room, else turned far enough to keep them apart; if that fails, only every nth."""
    named = [(scale.at(number), name) for number, name in enumerate(axis.names)]
    angle, each = _turned(axis.names, scale.stop - scale.start)
    if not angle:
        return Names([Tick(at, name, at) for at, name in named], angle, SMALL)
    sine, cosine = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    shown = [Tick(at, shortened(name, _NAME_MAX, SMALL), at, name) for at, name in named[:: math.ceil(SMALL / each)]]
    return Names(shown, angle, max(sine * text_width(tick.text, SMALL) for tick in shown) + cosine * SMALL)


def overhang(axis: Axis, width: float) -> float:
    """Return how far slanted names reach to the left of a plot that is ``width`` wide."""
    angle, each = _turned(axis.names, width)
    if angle in (0.0, 90.0):
        return 0.0
    long = [min(_NAME_MAX, text_width(name, SMALL)) + SMALL for name in axis.names]
    return max(math.cos(math.radians(angle)) * length - (i + 0.5) * each for i, length in enumerate(long))


def _turned(names: Sequence[str], width: float) -> tuple[float, float]:
    """Return the angle in degrees that keeps names apart on an axis ``width`` long, and the length for each name."""
    each = width / max(1, len(names))
    if all(text_width(name, SMALL) + _APART <= each for name in names):
        return 0.0, each
    return (_SLANT if each * math.sin(math.radians(_SLANT)) >= SMALL else 90.0), each
