"""Decide what samples are, from their values: pictures of some layout and scale, or vectors. Pure functions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelloop.domain.limits import TEXT_DTYPE
from labelloop.domain.pixel_neighbours import SAMPLES_MIN, Places, resemblance
from labelloop.domain.sample_array import SampleValues
from labelloop.domain.value_scale import is_on_one_scale
from labelloop.events.v1.events_pb2 import PoolPublished, SampleKind, SampleLayout, ShownPool
from labelloop.oracle.v1.oracle_pb2 import DescribeDatasetResponse

FLAT_SIDE_MIN = 8  # pixels: smaller pictures are not recognised in flat samples
_CHANNELS_MAX = 4
_FLAT_CHANNELS = (1, 3)  # four would be pictures of twice the side
_SHOWN_CHANNELS = (1, 3, 4)
_SMALL_SCALE = 16  # up to here, the largest value is full brightness
_BYTE = 255

Note = str


def layout_of(samples: SampleValues) -> tuple[SampleLayout, Note]:
    """Return what samples are, and a sentence that says so.

    Pictures are ``[n, height, width]``, ``[n, height, width, channels]`` or ``[n, channels, height, width]`` with 1 to
    4 channels (if both of the latter fit, channels come last), or such pictures flat, square, of 1 or 3 channels.
    Bytes of such a shape are pictures. Flat samples and floats must be without negative values and look like pictures:
    see :func:`labelloop.domain.pixel_neighbours.resemblance`. All else is a vector.
    """
    if samples.dtype == object:
        return SampleLayout(kind=SampleKind.SAMPLE_KIND_TEXT), "samples are texts"
    shape = samples.shape[1:]
    candidates = _of_flat(shape[0]) if len(shape) == 1 else _of_shape(shape)
    smallest, largest = samples.min(), samples.max()
    if fault := _fault(samples, candidates, float(smallest)):
        return _vector(samples, fault)
    likeness = [resemblance(samples, places_of(each)) for each in candidates]
    layout = candidates[int(np.argmax(likeness))]
    if max(likeness) == 0 and (samples.dtype != np.uint8 or len(shape) == 1):
        return _vector(samples, "not pictures: neighbouring values are not alike, down and across")
    layout.full_scale = _full_scale(float(largest), samples.dtype)
    return layout, _told(layout, shape)


def layout_of_shape(shape: tuple[int, ...], dtype: str) -> SampleLayout:
    """Return the layout of a pool of which only shape and dtype are known.

    Bytes ``[h, w]`` and ``[h, w, c]`` are pictures, and all else but texts is a vector for models to see as it is.
    """
    if dtype == TEXT_DTYPE:
        return SampleLayout(kind=SampleKind.SAMPLE_KIND_TEXT)
    if dtype != "uint8" or len(shape) not in (2, 3):
        return SampleLayout(kind=SampleKind.SAMPLE_KIND_VECTOR, on_one_scale=True)
    height, width, channels = (*shape, 1)[:3]
    layout = _image(height, width, channels)
    layout.full_scale = _BYTE
    return layout


def stated_layout(pool: DescribeDatasetResponse | PoolPublished | ShownPool) -> SampleLayout:
    """Return the layout that a message states, or what shape and dtype say where it states none."""
    return pool.layout if pool.HasField("layout") else layout_of_shape(tuple(pool.shape), pool.dtype)


def layout_fault(layout: SampleLayout, shape: tuple[int, ...]) -> str:
    """Return why samples of ``shape`` cannot be of this layout; empty if they can."""
    values = math.prod(shape)
    if layout.kind not in SampleKind.values():
        return f"{layout.kind} is no kind of sample"
    if layout.kind == SampleKind.SAMPLE_KIND_ROW and len(layout.columns) != values:
        return f"{len(layout.columns)} columns are named for {values} values"
    if layout.kind != SampleKind.SAMPLE_KIND_IMAGE:
        return ""
    if layout.height * layout.width * layout.channels != values:
        return f"{layout.height} x {layout.width} pixels of {layout.channels} channels are not {values} values"
    return "" if 0 < layout.full_scale < math.inf else f"full brightness is not {layout.full_scale}"


def places_of(layout: SampleLayout) -> Places:
    """Return which value of a flat sample each pixel is, ``[channels, height, width]``."""
    places = np.arange(layout.channels * layout.height * layout.width)
    if layout.channels_first:
        return places.reshape(layout.channels, layout.height, layout.width)
    return places.reshape(layout.height, layout.width, layout.channels).transpose(2, 0, 1)


def as_pictures(samples: NDArray[Any], layout: SampleLayout) -> NDArray[np.uint8]:
    """Return samples ``[n, *shape]`` of a layout of pictures as bytes ``[n, height, width, channels]``."""
    height, width, channels = layout.height, layout.width, layout.channels
    if layout.channels_first:
        pixels = samples.reshape(-1, channels, height, width).transpose(0, 2, 3, 1)
    else:
        pixels = samples.reshape(-1, height, width, channels)
    if samples.dtype == np.uint8 and layout.full_scale == _BYTE:
        return np.asarray(pixels, np.uint8)
    scaled: NDArray[np.float32] = np.clip(np.rint(pixels * np.float32(_BYTE / layout.full_scale)), 0, _BYTE)
    return scaled.astype(np.uint8)


def is_shown(layout: SampleLayout) -> bool:
    """Return whether :func:`as_picture` gives what can be displayed: grey, RGB or RGBA."""
    return layout.kind == SampleKind.SAMPLE_KIND_IMAGE and layout.channels in _SHOWN_CHANNELS


def as_picture(sample: NDArray[Any], layout: SampleLayout) -> NDArray[np.uint8]:
    """Return one sample as bytes to display: ``[height, width]``, followed by channels if there are several."""
    picture: NDArray[np.uint8] = as_pictures(sample[None], layout)[0]
    return picture[:, :, 0] if layout.channels == 1 else picture


def _vector(samples: SampleValues, why: str) -> tuple[SampleLayout, Note]:
    layout = SampleLayout(kind=SampleKind.SAMPLE_KIND_VECTOR, on_one_scale=is_on_one_scale(samples))
    scale = "of one scale" if layout.on_one_scale else "of different scales"
    return layout, f"samples are {_sizes(samples.shape[1:])} values each, {why}; the values are {scale}"


def _of_flat(size: int) -> list[SampleLayout]:
    found = []
    for channels in _FLAT_CHANNELS:
        side = math.isqrt(size // channels)
        if side * side * channels == size and side >= FLAT_SIDE_MIN:
            found += [_image(side, side, channels, first) for first in ((False, True) if channels > 1 else (False,))]
    return found


def _of_shape(shape: tuple[int, ...]) -> list[SampleLayout]:
    if len(shape) == 2:
        return [_image(*shape, 1)]
    if len(shape) == 3 and shape[2] <= _CHANNELS_MAX:
        return [_image(*shape)]
    if len(shape) == 3 and shape[0] <= _CHANNELS_MAX:
        return [_image(shape[1], shape[2], shape[0], first=True)]
    return []


def _image(height: int, width: int, channels: int, first: bool = False) -> SampleLayout:
    return SampleLayout(
        kind=SampleKind.SAMPLE_KIND_IMAGE, height=height, width=width, channels=channels, channels_first=first
    )


def _fault(samples: SampleValues, candidates: list[SampleLayout], smallest: float) -> str:
    """Return why samples are no pictures, whatever they look like; empty if they may be."""
    if not candidates:
        return "not pictures by their shape"
    if smallest < 0:
        return "not pictures, because some are negative (scale pictures to 0..1 or 0..255)"
    if len(samples) < SAMPLES_MIN and len(samples.shape) == 2:
        return f"which are taken for pictures in pools of {SAMPLES_MIN} samples at least"
    return ""


def _full_scale(largest: float, dtype: np.dtype[Any]) -> float:
    """Return the value of full brightness: 1 or 255 if that is plausible, or the largest value that there is.

    Of more than 255 it is the largest value of as many bits, such as 4095.
    """
    if largest <= 1 and dtype != np.uint8:
        return 1
    if 0 < largest <= _SMALL_SCALE:
        return largest
    return _BYTE if largest <= _BYTE else 2 ** math.ceil(math.log2(largest + 1)) - 1


def _told(layout: SampleLayout, shape: tuple[int, ...]) -> Note:
    order = "" if layout.channels == 1 else ", channels first" if layout.channels_first else ", channels last"
    colours = "1 channel" if layout.channels == 1 else f"{layout.channels} channels"
    scale = np.format_float_positional(layout.full_scale, precision=6, trim="-")
    given = f" (given as {_sizes(shape)} values)" if len(shape) == 1 else ""
    return (
        f"samples are pictures of {layout.width} x {layout.height} pixels, {colours}{order}, with values from 0 to "
        f"{scale}{given}"
    )


def _sizes(shape: tuple[int, ...]) -> str:
    return " x ".join(f"{size:,}" for size in shape)
