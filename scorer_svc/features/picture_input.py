"""Read samples as pictures of one scale and of a bounded size, in NumPy and at the beginning of an ONNX graph. Pure
functions."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
from labelloop.domain.abandonment import check_wanted
from labelloop.domain.sample_layout import as_pictures, layout_of_shape
from labelloop.events.v1.events_pb2 import SampleKind, SampleLayout
from numpy.typing import NDArray
from onnx import TensorProto

from scorer_svc.features.onnx_chain import INPUT, Chain

SIDE_MIN = 4  # pixels of a picture
_AREA_MAX = 48 * 48  # pixels; of more, what a graph computes takes more than 4 MB an image
_POOLED_SIDE_MIN = 8
_AVERAGED_AT_ONCE = 50


@dataclass(frozen=True)
class Given:
    """How samples come in: their dtype, uint8 or float32, whether channels are first, and the value of white."""

    dtype: str = "uint8"
    channels_first: bool = False
    full_scale: float = 255.0


BYTES = Given()


def pooling(height: int, width: int) -> tuple[int, int]:
    """Return how many pixels down and across are averaged into one before patches are cut.

    1 and 1 for images of up to 48 x 48 pixels, or as many pixels in another shape. For larger images, the smallest
    equal numbers that reduce them to that many, but no side to less than 8 pixels. Pixels at the right and the bottom
    that do not fill a whole cell are left out.
    """
    for factor in count(1):
        down, across = (min(factor, max(1, side // _POOLED_SIDE_MIN)) for side in (height, width))
        if (height // down) * (width // across) <= _AREA_MAX:
            return down, across
    raise AssertionError("sides of 8 to 15 pixels are small enough")


def opened(image_shape: tuple[int, ...], given: Given, output: str) -> tuple[Chain, dict[str, Any]]:
    """Build the chain from samples as they are given to pixels ``[n, channels, height, width]`` from 0 to 255."""
    height, width, channels = image_shape
    scaled = given.full_scale != BYTES.full_scale
    shape = (0, channels, height, width) if given.channels_first else (0, height, width, channels)
    chain: Chain = [("Cast", [INPUT], "given" if scaled else "values", {"to": TensorProto.FLOAT})]
    weights: dict[str, Any] = {"image_shape": np.array(shape, np.int64)}
    if scaled:
        chain.append(("Mul", ["given", "white"], "values", {}))
        weights["white"] = np.float32(BYTES.full_scale / given.full_scale)
    if given.channels_first:
        return [*chain, ("Reshape", ["values", "image_shape"], output, {})], weights
    chain.append(("Reshape", ["values", "image_shape"], "rows", {}))
    return [*chain, ("Transpose", ["rows"], output, {"perm": [0, 3, 1, 2]})], weights


def pictures_of(samples: NDArray[Any], layout: SampleLayout | None) -> tuple[NDArray[np.uint8], SampleLayout]:
    """Return samples as pictures ``[n, height, width, channels]`` from 0 to 255, and their layout.

    Where none is stated, it is what shape and dtype say. ValueError if samples are no pictures, or too small.
    """
    layout = layout or layout_of_shape(samples.shape[1:], samples.dtype.name)
    if layout.kind != SampleKind.SAMPLE_KIND_IMAGE or min(layout.height, layout.width) < SIDE_MIN:
        shape = "x".join(map(str, samples.shape[1:]))
        raise ValueError(f"samples are {shape} {samples.dtype}, not pictures of {SIDE_MIN} x {SIDE_MIN} pixels or more")
    return as_pictures(samples, layout), layout


def averaged(images: NDArray[np.uint8], down: int, across: int) -> NDArray[Any]:
    """Average images ``[n, height, width, channels]`` as the graph does before it cuts patches."""
    if (down, across) == (1, 1):
        return images
    count, height, width, channels = images.shape
    rows, columns = height // down, width // across
    averaged = np.empty((count, rows, columns, channels), np.float32)
    for start in range(0, count, _AVERAGED_AT_ONCE):
        check_wanted()
        some = images[start : start + _AVERAGED_AT_ONCE, : rows * down, : columns * across]
        cells = some.reshape(len(some), rows, down, columns, across, channels)
        cells.mean(axis=(2, 4), dtype=np.float32, out=averaged[start : start + _AVERAGED_AT_ONCE])
    return averaged
