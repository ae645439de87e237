"""Tell labels from places where a label is unknown: -1, NaN and empty cells. Pure functions."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np
from labelloop.errors import InvalidInput
from numpy.typing import NDArray

from .text_set import sorted_labels

UNKNOWN = -1
_WRITTEN = "-1"


class NamedLabels(NamedTuple):
    """Labels ``[n]`` as indices of ``classes``, -1 where unknown, and what was assumed, a sentence each."""

    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    notes: tuple[str, ...]


def named_labels(texts: Sequence[str], named: Collection[str]) -> NamedLabels:
    """Read labels that are written as text.

    Empty ones are unknown. So is ``-1``, unless a class of that name is among ``named``, the classes that the user
    names.
    """
    unknown = {""} if _WRITTEN in named else {"", _WRITTEN}
    classes = sorted_labels({*texts} - unknown)
    index_of = {name: index for index, name in enumerate(classes)}
    labels = np.array([index_of.get(text, UNKNOWN) for text in texts], np.int64)
    count = 0 if _WRITTEN in named else sum(text == _WRITTEN for text in texts)
    note = f"{count:,} labels are -1, which is taken for unknown: if it is a class, name it among the classes"
    return NamedLabels(labels, classes, (note,) if count else ())


def whole_labels(raw: NDArray[Any], origin: str, field: str) -> NDArray[Any]:
    """Return labels ``[n]`` that are floats as integers, -1 for NaN; others unchanged.

    Raises InvalidInput for a fraction or infinity, naming its row.
    """
    if raw.dtype.kind != "f" or raw.ndim != 1:
        return raw
    missing = np.isnan(raw)
    odd = ~missing & ((raw != np.floor(raw)) | (np.abs(raw) > 2**31))
    if odd.any():
        row = int(odd.argmax())
        message = (
            f"{origin}, row {row}: the label {raw[row]} is no whole number: save class indices, and NaN or -1 where "
            "a label is unknown"
        )
        raise InvalidInput("LABELS_SHAPE", message, field=field, origin=origin, row=row)
    return np.where(missing, UNKNOWN, raw).astype(np.int64)


def refuse_unknown(labels: NDArray[np.int32], names: Sequence[str], origin: str, field: str) -> None:
    """Raise InvalidInput if a label ``[n]`` of an evaluation set is unknown, with the first such sample."""
    unknown = np.flatnonzero(labels == UNKNOWN)
    if len(unknown):
        first = names[unknown[0]] if names else str(unknown[0])
        message = (
            f"{origin}: {len(unknown):,} of {len(labels):,} evaluation samples have no label, such as {first!r}: label "
            "them, or leave them out"
        )
        raise InvalidInput("EVALUATION_LABELS_MISSING", message, field=field, origin=origin)
