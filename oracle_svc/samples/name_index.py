"""Find samples by name in pools of millions, in 20 bytes a sample. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b

import numpy as np
from labelloop.domain.class_names import comparable
from numpy.typing import NDArray

_DIGEST_BYTES = 16  # so many that no two names share a digest
_DTYPE = f"S{_DIGEST_BYTES}"


class NameIndex:
    """The id of each name of a pool. A sample without a name has its id as its name.

    Names are looked up as they are, then in NFC and without spaces around them, as
    :func:`oracle_svc.datasets.matching.ids_of` does. Of samples with one name the last is found. Digests of the names
    are held, not the names. Where no sample of a pool has a name, nothing is held.
    """

    def __init__(self) -> None:
        self._count, self._named = 0, False
        self._parts: list[bytes] = []
        self._digests, self._ids = np.empty(0, _DTYPE), np.empty(0, np.uint32)
        self._odd: dict[str, int] = {}

    def add(self, names: Sequence[str], count: int) -> None:
        """Add the names of the next ``count`` samples; none if no sample among them has one."""
        first, self._count = self._count, self._count + count
        if not any(names) and not self._named:
            return
        if not self._named:
            self._named = True
            self._parts.append(_joined(map(str, range(first))))
        known = [name or str(first + i) for i, name in enumerate(names or [""] * count)]
        self._parts.append(_joined(known))
        for sample_id, name in enumerate(known, first):
            if (near := comparable(name)) != name:
                self._odd[near] = sample_id

    def finish(self) -> NameIndex:
        """Sort what was added; to be called once, before any lookup."""
        if not self._named:
            return self
        digests = np.frombuffer(b"".join(self._parts), _DTYPE)
        self._parts = []
        order = np.argsort(digests, kind="stable").astype(np.uint32)
        self._digests, self._ids = digests[order], order
        return self

    def find(self, names: Sequence[str]) -> list[int | None]:
        """Return the id of each name; None for one that the pool lacks."""
        exact, near = self._exact(names), self._exact([comparable(name) for name in names])
        return [
            found if found >= 0 else _none_if_negative(max(other, self._odd.get(comparable(name), -1)))
            for name, found, other in zip(names, exact, near, strict=True)
        ]

    def _exact(self, names: Sequence[str]) -> list[int]:
        """Return the last sample of each name; -1 for none."""
        if not self._named:
            return [_as_id(name, self._count) for name in names]
        if not names:
            return []
        wanted: NDArray[np.bytes_] = np.frombuffer(_joined(names), _DTYPE)
        at = np.searchsorted(self._digests, wanted, side="right") - 1
        is_there = (at >= 0) & (self._digests[np.maximum(at, 0)] == wanted)
        found: list[int] = np.where(is_there, self._ids[np.maximum(at, 0)].astype(np.int64), -1).tolist()
        return found


def _joined(names: Iterable[str]) -> bytes:
    return b"".join(blake2b(name.encode(errors="surrogatepass"), digest_size=_DIGEST_BYTES).digest() for name in names)


def _as_id(name: str, count: int) -> int:
    """Return the id that ``name`` is, written as str writes it; -1 if it is none below ``count``."""
    is_id = name.isascii() and name.isdecimal() and len(name) <= len(str(count)) and name == str(int(name))
    return int(name) if is_id and int(name) < count else -1


def _none_if_negative(sample_id: int) -> int | None:
    return sample_id if sample_id >= 0 else None
