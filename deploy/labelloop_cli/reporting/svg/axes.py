"""The axes of a panel: which values they reach over, what is marked on them, and how much room that takes. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from labelloop_cli.reporting.svg.markup import SMALL, shortened, text_width
from labelloop_cli.reporting.svg.scales import Scale, drawable, extent, outwards, padded, step_of, tick_texts

_APART = 6.0  # between texts beside each other
_FEW = 3  # steps between ticks: with fewer, a range may hold no round value at all
_EACH_X, _EACH_Y = 46.0, 25.0  # room for a tick at the least
_NAME_MAX = 116.0  # length of a turned name
_SLANT = 45.0  # degrees
_EDGE = 0.02  # of the range of x, left free at both ends


@dataclass(frozen=True)
class Axis:
    """``include`` are values to reach in any case; ``whole`` marks integers only; ``reverse`` runs from high to low.
    ``texts`` are marked instead of round values; ``names`` are those of the values 0, 1, 2, for categories."""

    title: str = ""
    log: bool = False
    whole: bool = False
    reverse: bool = False
    include: Sequence[float] = ()
    texts: Mapping[float, str] = field(default_factory=dict)
    names: Sequence[str] = ()

    def along_x(self, values: Iterable[float], left: float, right: float) -> Scale:
        """From left to right; a little room is left where no value of ``include`` is the end."""
        if self.names:
            return Scale(-0.5, len(self.names) - 0.5, left, right)
        low, high = self._extent(values)
        wider = padded(low, high, _EDGE, log=self.log)
        low, high = low if low in self.include else wider[0], high if high in self.include else wider[1]
        start, stop = (right, left) if self.reverse else (left, right)
        return Scale(low, high, start, stop, self.log)

    def along_y(self, values: Iterable[float], bottom: float, top: float) -> Scale:
        """From the bottom upwards, to round values at both ends."""
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
    """A marked value at a place along the axis. Its text, about ``middle``, is empty where there is no room for it, and
    may be a part of ``full``."""

    at: float
    text: str
    middle: float
    full: str = ""


def ticks_y(axis: Axis, scale: Scale) -> list[Tick]:
    values = scale.ticks(int((scale.start - scale.stop) / _EACH_Y), whole=axis.whole)
    texts = tick_texts(values, log=axis.log)
    return [Tick(scale.at(value), text, scale.at(value)) for value, text in zip(values, texts, strict=True)]


def ticks_x(axis: Axis, scale: Scale, left: float, right: float) -> list[Tick]:
    """As many round values as have room for their texts between ``left`` and ``right``; or the axis's own texts, as far
    as they have room."""
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
    """From left to right; texts at the ends are moved inwards, those that would touch the one before are left out."""
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
    """Names of categories under the axis, level, slanted or upright; ``depth`` is what they take below it."""

    ticks: list[Tick]
    angle: float
    depth: float


def names_x(axis: Axis, scale: Scale) -> Names:
    """Level where all have room, else turned as far as keeps them apart; only every few where even that fails."""
    named = [(scale.at(number), name) for number, name in enumerate(axis.names)]
    angle, each = _turned(axis.names, scale.stop - scale.start)
    if not angle:
        return Names([Tick(at, name, at) for at, name in named], angle, SMALL)
    sine, cosine = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    shown = [Tick(at, shortened(name, _NAME_MAX, SMALL), at, name) for at, name in named[:: math.ceil(SMALL / each)]]
    return Names(shown, angle, max(sine * text_width(tick.text, SMALL) for tick in shown) + cosine * SMALL)


def overhang(axis: Axis, width: float) -> float:
    """How far slanted names reach to the left of a plot that is ``width`` wide."""
    angle, each = _turned(axis.names, width)
    if angle in (0.0, 90.0):
        return 0.0
    long = [min(_NAME_MAX, text_width(name, SMALL)) + SMALL for name in axis.names]
    return max(math.cos(math.radians(angle)) * length - (i + 0.5) * each for i, length in enumerate(long))


def _turned(names: Sequence[str], width: float) -> tuple[float, float]:
    """The angle in degrees at which names stay apart under an axis that is ``width`` long, and the length for each."""
    each = width / max(1, len(names))
    if all(text_width(name, SMALL) + _APART <= each for name in names):
        return 0.0, each
    return (_SLANT if each * math.sin(math.radians(_SLANT)) >= SMALL else 90.0), each
