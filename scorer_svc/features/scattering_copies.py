"""Make copies of pictures that are moved, turned, scaled and sheared a little. Pure functions."""

from __future__ import annotations

import numpy as np
from labelloop.domain.abandonment import wanted
from numpy.typing import NDArray

_SHIFT = 2 / 28  # of a side
_TURN = np.radians(15)
_SCALE = 0.15
_SHEAR = 0.1
_AT_ONCE = 100

Pictures = NDArray[np.float32]  # [n, height, width, channels]


def changed(pictures: Pictures, rng: np.random.Generator) -> Pictures:
    """Return each picture changed at random, a little, as whatever it shows may as well have been seen.

    Values between pixels are interpolated, and those at the edges go on outside.
    """
    count, height, width, _ = pictures.shape
    turn, wide, tall, shear, across, down = rng.uniform(-1, 1, (6, count)).astype(np.float32)
    turn, wide, tall = turn * np.float32(_TURN), 1 + wide * np.float32(_SCALE), 1 + tall * np.float32(_SCALE)
    cos, sin = np.cos(turn), np.sin(turn)
    onto = np.stack([cos * wide, np.float32(_SHEAR) * shear - sin * tall, sin * wide, cos * tall], axis=1)
    shift = np.stack([across * np.float32(_SHIFT * width), down * np.float32(_SHIFT * height)], axis=1)
    found = np.empty_like(pictures)
    for start in wanted(range(0, count, _AT_ONCE)):
        some = slice(start, start + _AT_ONCE)
        found[some] = _moved(pictures[some], onto[some], shift[some])
    return found


def _moved(pictures: Pictures, onto: NDArray[np.float32], shift: NDArray[np.float32]) -> Pictures:
    """Look each pixel up where a matrix ``onto`` ``[n, 4]`` and a ``shift`` ``[n, 2]`` say, from the middle."""
    count, height, width, _ = pictures.shape
    rows, columns = (np.arange(side, dtype=np.float32) - np.float32((side - 1) / 2) for side in (height, width))
    a, b, c, d = (each[:, None, None] for each in onto.T)
    x = a * columns + b * rows[:, None] + shift[:, 0, None, None] + np.float32((width - 1) / 2)
    y = c * columns + d * rows[:, None] + shift[:, 1, None, None] + np.float32((height - 1) / 2)
    left, right, of_right = _between(x, width)
    top, bottom, of_bottom = _between(y, height)
    each = np.arange(count)[:, None, None]
    above = pictures[each, top, left] * (1 - of_right) + pictures[each, top, right] * of_right
    below = pictures[each, bottom, left] * (1 - of_right) + pictures[each, bottom, right] * of_right
    return np.asarray(above * (1 - of_bottom) + below * of_bottom, np.float32)


def _between(places: NDArray[np.float32], side: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """Return the pixels before and after each place, and how much the latter counts, with an axis for channels."""
    within = np.clip(places, 0, side - 1)
    before = np.minimum(within.astype(np.intp), side - 2)
    return before, before + 1, (within - before.astype(np.float32))[..., None]
