"""Validate a pool's arrays: convert dtypes, check every value and report the first bad row. No I/O."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from labelloop.errors import InvalidInput
from numpy.typing import NDArray

FLOAT_MAX = 1e15  # sums of squares of larger values overflow float32: fits and clusters would turn into NaN


def values_dtype(shape: tuple[int, ...], stored: np.dtype[Any], origin: str, field: str) -> np.dtype[Any]:
    """Return the type of samples made of an array of this shape and type: uint8 of integers, float32 of floats.

    Raises InvalidInput if it is empty, not ``[N, *shape]``, or holds neither; LimitExceeded if it is too large.
    """
    if len(shape) < 2:
        raise InvalidInput(
            "SAMPLES_SHAPE",
            f"{origin} has {len(shape)} dimension(s), but samples are [count, *shape]: give each sample a row",
            field=field,
            origin=origin,
            dimensions=len(shape),
        )
    if math.prod(shape) == 0:
        raise InvalidInput("EMPTY_POOL", f"{origin} holds no samples: name one that does", field=field, origin=origin)
    if np.issubdtype(stored, np.floating):
        return np.dtype(np.float32)
    if np.issubdtype(stored, np.integer):
        return np.dtype(np.uint8)
    raise InvalidInput(
        "SAMPLES_DTYPE",
        f"{origin} holds {stored}, but samples are uint8 pixels or float32 features: convert them",
        field=field,
        origin=origin,
        dtype=stored,
    )


def as_values(raw: NDArray[Any], origin: str, field: str, first_row: int = 0) -> NDArray[Any]:
    """Convert ``raw`` [n, *shape] to C-contiguous uint8 (integers in 0 .. 255) or float32 (finite, magnitude <= 1e15).

    Raises InvalidInput that names the first bad row, counted from ``first_row``.
    """
    if np.issubdtype(raw.dtype, np.floating):
        return _as_float32(raw, origin, field, first_row)
    return _as_uint8(raw, origin, field, first_row)


def as_labels(raw: NDArray[Any], sample_count: int, origin: str, field: str) -> NDArray[Any]:
    """Return ``raw`` [N] unchanged. Raises InvalidInput unless it holds one integer per sample (N = sample_count).

    -1 is for a sample whose label is unknown.
    """
    if raw.ndim != 1 or not np.issubdtype(raw.dtype, np.integer):
        raise InvalidInput(
            "LABELS_SHAPE",
            f"{origin} is {raw.dtype} of shape {raw.shape}, but labels are a list of integers: save class indices",
            field=field,
            origin=origin,
            dtype=raw.dtype,
            shape=raw.shape,
        )
    if len(raw) != sample_count:
        raise InvalidInput(
            "LABELS_COUNT",
            f"{origin} has {len(raw)} labels for {sample_count} samples: there must be one for each, in their order",
            field=field,
            origin=origin,
            label_count=len(raw),
            sample_count=sample_count,
        )
    return raw


def in_range(labels: NDArray[Any], class_count: int, origin: str, field: str) -> NDArray[np.int32]:
    """Convert ``labels`` [N] to int32. Raises InvalidInput naming the first one outside -1 .. class_count - 1."""
    signed = labels.dtype.kind == "i"
    outside = (labels >= class_count) | (labels < -1 if signed else False)
    if outside.any():
        row = _first_row(outside)
        raise InvalidInput(
            "LABEL_RANGE",
            f"{origin}, row {row}: label {labels[row]} is not a class, those are 0 to {class_count - 1}: "
            "correct the label, name every class, or write -1 where a label is unknown",
            field=field,
            origin=origin,
            row=row,
            label=labels[row],
            class_max=class_count - 1,
        )
    return labels.astype(np.int32)


def _as_float32(raw: NDArray[Any], origin: str, field: str, first_row: int) -> NDArray[np.float32]:
    place = origin, field, first_row
    with np.errstate(over="ignore"):  # values too large for float32 become infinite and are refused below
        samples = np.ascontiguousarray(raw, dtype=np.float32)
    with np.errstate(invalid="ignore"):
        if samples.min() >= -FLOAT_MAX and samples.max() <= FLOAT_MAX:  # both are NaN if any value is
            return samples
    finite = np.isfinite(samples)
    if not finite.all():
        _refuse_value(raw, ~finite, "is not a finite float32", "drop or mend that sample", *place)
    outside = np.abs(samples) > FLOAT_MAX
    if outside.any():
        _refuse_value(raw, outside, f"is larger than {FLOAT_MAX:.0e} in size", "scale the features", *place)
    return samples


def _as_uint8(raw: NDArray[Any], origin: str, field: str, first_row: int) -> NDArray[np.uint8]:
    place = origin, field, first_row
    if raw.dtype != np.uint8:
        outside = (raw < 0) | (raw > 255)
        if outside.any():
            _refuse_value(raw, outside, "is not in 0 to 255", "scale to uint8, or save float32", *place)
    return np.ascontiguousarray(raw, dtype=np.uint8)


def _refuse_value(
    raw: NDArray[Any], bad: NDArray[np.bool_], why: str, remedy: str, origin: str, field: str, first_row: int
) -> None:
    value = raw[_first_row(bad)][bad[_first_row(bad)]][0]
    row = first_row + _first_row(bad)
    raise InvalidInput(
        "SAMPLE_VALUE",
        f"{origin}, row {row}: {value} {why}: {remedy}",
        field=field,
        origin=origin,
        row=row,
        value=value,
    )


def _first_row(bad: NDArray[np.bool_]) -> int:
    """Return the index of the first row of ``bad`` [N, ...] that contains a True; there must be one."""
    return int(bad.reshape(len(bad), -1).any(axis=1).argmax())
