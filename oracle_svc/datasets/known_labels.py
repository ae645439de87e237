"""Tell what labels a dataset knows. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .dataset import Dataset

_TAKEN_OVER_MAX = 200_000  # samples: more do not fit into the event that starts a run


@dataclass(frozen=True)
class PartlyKnown:
    """The labels of a dataset that knows only some.

    Attributes:
        count: How many it knows; 0 if it knows all or none.
        ids: The samples, ascending; empty if they are more than a run can take over.
        classes: The class of each.
    """

    count: int = 0
    ids: list[int] = field(default_factory=list)
    classes: list[int] = field(default_factory=list)


def partly_known(dataset: Dataset) -> PartlyKnown:
    if dataset.known is None:
        return PartlyKnown()
    ids = np.flatnonzero(dataset.known >= 0)
    told = ids if len(ids) <= _TAKEN_OVER_MAX else ids[:0]
    return PartlyKnown(len(ids), told.tolist(), dataset.known[told].tolist())


def class_counts(dataset: Dataset) -> list[int]:
    """Return the number of samples of each class, of those whose label is known; empty if none is."""
    labels = dataset.known if dataset.labels is None else dataset.labels
    if labels is None:
        return []
    counts: list[int] = np.bincount(labels[labels >= 0], minlength=len(dataset.classes)).tolist()
    return counts
