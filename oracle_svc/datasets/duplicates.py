"""Find samples that are equal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any

import numpy as np
from labelloop.domain.duplicates import Duplicates
from numpy.typing import NDArray

from .dataset import Dataset
from .parts import parts_of

_DIGEST_BYTES = 16  # nobody has found two samples whose SHA-256 agrees in so many, nor can by chance
_KEY_BYTES = _DIGEST_BYTES + 4
_KEYS_AT_ONCE = 1_000_000
BYTES_A_SAMPLE = _KEY_BYTES + 4  # of memory


class EqualSamples:
    """Finds which samples are equal; they are added part by part, in their order.

    Samples are equal if their bytes are, and those of the files that people see of them; missing values (NaN) are equal
    to each other, and 0 to -0. Takes 24 bytes of memory for each sample: 128 bits of its SHA-256, its place, and the
    result.
    """

    def __init__(self, count: int, files: Sequence[str] = ()) -> None:
        self._files, self._added = files, 0
        self._keys = np.empty((count, _KEY_BYTES), np.uint8)

    def add(self, part: NDArray[Any]) -> None:
        """Add the samples ``[n, *shape]``, or texts ``[n]``, that follow."""
        start, stop = self._added, self._added + len(part)
        digests = b"".join(_digests(part, self._files[start:stop]))
        keys = self._keys[start:stop]
        keys[:, :_DIGEST_BYTES] = np.frombuffer(digests, np.uint8).reshape(len(part), _DIGEST_BYTES)
        # Big-endian, so that bytes sort as places do.
        keys[:, _DIGEST_BYTES:] = np.arange(start, stop, dtype=">u4").view(np.uint8).reshape(len(part), -1)
        self._added = stop

    def first_equal(self) -> NDArray[np.int32]:
        """Return for each sample the first that equals it ``[N]``, itself where no earlier one does. Call it once."""
        keys, self._keys = self._keys, np.empty((0, _KEY_BYTES), np.uint8)
        keys.view(f"S{_KEY_BYTES}").ravel().sort()  # in place; equal samples are side by side, the first one first
        found, last_digest, first = np.empty(len(keys), np.int32), np.empty(0, np.uint8), 0
        for start in range(0, len(keys), _KEYS_AT_ONCE):
            part = keys[start : start + _KEYS_AT_ONCE]
            digests = part[:, :_DIGEST_BYTES]
            places = np.ascontiguousarray(part[:, _DIGEST_BYTES:]).view(">u4").ravel()
            begins = np.ones(len(part), bool)
            begins[1:] = (digests[1:] != digests[:-1]).any(axis=1)
            begins[0] = not np.array_equal(digests[0], last_digest)
            firsts = np.r_[np.uint32(first), places[begins]]
            found[places] = firsts[np.cumsum(begins)]
            last_digest, first = digests[-1].copy(), int(found[places[-1]])
        return found


def with_duplicates(dataset: Dataset, equal: EqualSamples | None = None) -> Dataset:
    """Return ``dataset`` with its duplicates, and notes that tell users what becomes of them.

    ``equal`` holds the samples already if they were read before.
    """
    duplicates = Duplicates.of(equal.first_equal() if equal else first_equal(dataset))
    return replace(dataset, duplicates=duplicates, notes=(*dataset.notes, *_notes(dataset, duplicates)))


def first_equal(dataset: Dataset) -> NDArray[np.int32]:
    """Return for each sample the first that equals it ``[N]``, itself where no earlier one does."""
    equal = EqualSamples(len(dataset.samples), dataset.files)
    for part in parts_of(dataset.samples):
        equal.add(part)
    return equal.first_equal()


def _digests(part: NDArray[Any], files: Sequence[str]) -> Iterator[bytes]:
    """Yield the beginning of the SHA-256 of each sample, with the digest of the file that people see of it."""
    if not files:
        return (sha256(data).digest()[:_DIGEST_BYTES] for data in _encoded(part))
    pairs = zip(files, _encoded(part), strict=True)
    return (sha256(file.encode() + bytes(data)).digest()[:_DIGEST_BYTES] for file, data in pairs)


def _encoded(samples: NDArray[Any]) -> Iterator[bytes | memoryview]:
    """Yield the bytes of each sample, the same for the same numbers."""
    for part in parts_of(samples):
        if part.dtype == object:
            yield from (text.encode(errors="surrogatepass") for text in part)
        else:
            rows = np.ascontiguousarray(_comparable(part)).reshape(len(part), -1).view(np.uint8)
            yield from (rows[place].data for place in range(len(part)))


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
