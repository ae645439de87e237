"""Find samples that are equal. Pure functions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from labelloop.artifacts.formats import sample_digest
from labelloop.domain.duplicates import Duplicates
from numpy.typing import NDArray

from .dataset import Dataset

_DIGEST_BYTES = 32
_BYTES_AT_ONCE = 16 * 1024 * 1024


def with_duplicates(dataset: Dataset) -> Dataset:
    """Return ``dataset`` with its duplicates, and notes that tell users what becomes of them."""
    duplicates = Duplicates.of(first_equal(dataset))
    return replace(dataset, duplicates=duplicates, notes=(*dataset.notes, *_notes(dataset, duplicates)))


def first_equal(dataset: Dataset) -> NDArray[np.int32]:
    """Return for each sample the first sample that equals it ``[N]``, itself where no earlier one does.

    Samples are equal if their bytes are, and those of the files that people see of them; missing values (NaN) are equal
    to each other, and 0 to -0. Takes about 100 bytes of memory for each sample.
    """
    digests = np.empty(len(dataset.samples), f"S{_DIGEST_BYTES}")  # all of one length, so that zeros at the end count
    files = dataset.files
    at_once = max(1, _BYTES_AT_ONCE * len(digests) // max(1, dataset.samples.nbytes))
    for start in range(0, len(digests), at_once):
        for place, sample in enumerate(_comparable(dataset.samples[start : start + at_once]), start):
            digests[place] = sample_digest(sample, files[place] if files else "")
    _, first, group = np.unique(digests, return_index=True, return_inverse=True)
    return first.astype(np.int32)[group]


def _comparable(samples: NDArray[Any]) -> NDArray[Any]:
    """Return ``samples`` ``[n, *shape]`` with the same bytes for the same numbers."""
    if samples.dtype != np.float32:
        return samples
    return np.where(np.isnan(samples), np.float32(np.nan), samples + np.float32(0))


def _notes(dataset: Dataset, duplicates: Duplicates) -> list[str]:
    if not len(duplicates):
        return []
    notes = [
        f"{len(duplicates):,} of {len(dataset.samples):,} samples equal an earlier one: they are not asked for, and "
        "share its label"
    ]
    if torn := _torn_groups(dataset, duplicates):
        notes.append(
            f"{torn:,} group{'s' * (torn > 1)} of equal samples {'have' if torn > 1 else 'has'} different labels in "
            "the dataset: the label of the sample that is asked for counts, mostly the first; correct the labels if "
            "they are wrong"
        )
    return notes


def _torn_groups(dataset: Dataset, duplicates: Duplicates) -> int:
    """Return how many groups of equal samples do not have one label."""
    labels = dataset.known if dataset.labels is None else dataset.labels
    if labels is None:
        return 0
    of_each, of_first = labels[duplicates.ids], labels[duplicates.first]
    differ = (of_each != of_first) & (of_each >= 0) & (of_first >= 0)
    return len(np.unique(duplicates.first[differ]))
