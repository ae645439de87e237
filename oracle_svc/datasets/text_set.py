"""Collect texts one by one, with their names and labels, and check them together. No I/O."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from labelloop.errors import InvalidInput
from numpy.typing import NDArray

from .reading import check_size
from .row import not_unicode

Notes = tuple[str, ...]
TEXT_CHARACTERS_MAX = 100_000
_NAME_CHARACTERS_MAX = 1_000
_FAULTS_NAMED = 20


@dataclass(frozen=True)
class Texts:
    """Texts [N] of str, their labels [N] and the names of the classes, their names, and notes on what was read."""

    samples: NDArray[Any]
    labels: NDArray[np.int64] | None
    classes: tuple[str, ...]
    names: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass
class TextSet:
    """Texts of one source, in the order in which they are added.

    Attributes:
        origin: The file or folder, for errors.
        setting: The setting that names it, for errors.
        skip_bad: Whether texts that cannot be used are left out, with a note; else all are refused together.
    """

    origin: str
    setting: str
    skip_bad: bool
    named: bool
    labelled: bool
    _texts: list[str] = field(default_factory=list)
    _names: dict[str, str] = field(default_factory=dict)
    _labels: list[str] = field(default_factory=list)
    _faults: list[str] = field(default_factory=list)
    _bytes: int = 0

    def add(self, place: str, text: Any, name: Any = None, label: Any = None) -> None:
        """Add the text that stands at ``place``, unless it, its name or its label cannot be used."""
        name, label = written(name), written(label)
        if fault := self._fault(text, name, label):
            self.leave_out(place, fault)
            return
        self._texts.append(text)
        if self.named:
            self._names[name] = place
        if self.labelled:
            self._labels.append(label)
        self._bytes += sys.getsizeof(text) + sys.getsizeof(name)
        check_size(self._bytes, self.origin)

    def leave_out(self, place: str, why: str) -> None:
        self._faults.append(f"{place}: {why}")

    def _fault(self, text: Any, name: str, label: str) -> str:
        if not isinstance(text, str):
            return f"the text is {type(text).__name__}, not a string" if text is not None else "it has no text"
        if not text.strip():
            return "the text is empty"
        if len(text) > TEXT_CHARACTERS_MAX:
            return f"the text has {len(text):,} characters, more than {TEXT_CHARACTERS_MAX:,}"
        if not_unicode(text + name + label):
            return "it holds half of a character, which is no Unicode"
        if self.named and (not name or len(name) > _NAME_CHARACTERS_MAX):
            return f"its id has {len(name):,} characters, not 1 to {_NAME_CHARACTERS_MAX:,}"
        if name in self._names:
            return f"its id {name!r} is that of {self._names[name]} too"
        return ""

    @property
    def labels(self) -> Sequence[str]:
        """The label of each text as it is written, empty where it is unknown."""
        return self._labels

    def finished(self, labels: NDArray[np.int64] | None, classes: tuple[str, ...] = (), notes: Notes = ()) -> Texts:
        """Return the texts with their ``labels`` ``[n]``, indices into ``classes``, -1 where unknown.

        Raises InvalidInput if there are none, or if any cannot be used and none may be left out.
        """
        if self._faults and not self.skip_bad:
            self._refuse("BAD_TEXTS", f"{self._listed()}: mend them, or leave them out (skip_bad)")
        if not self._texts:
            self._refuse("EMPTY_POOL", "it holds no texts: name one that does")
        texts = np.empty(len(self._texts), object)
        texts[:] = self._texts
        return Texts(texts, labels, classes, tuple(self._names), (*self._notes(), *notes))

    def _refuse(self, reason: str, why: str) -> None:
        raise InvalidInput(reason, f"{self.origin}: {why}", field=self.setting, origin=self.origin)

    def _listed(self) -> str:
        more = len(self._faults) - _FAULTS_NAMED
        return "; ".join([*self._faults[:_FAULTS_NAMED], *([f"and {more:,} more"] if more > 0 else [])])

    def _notes(self) -> tuple[str, ...]:
        lengths = np.fromiter(map(len, self._texts), np.int64)
        middle = int(np.median(lengths))
        lengths_said = f"{lengths.min():,} to {lengths.max():,} characters, half of them up to {middle:,}"
        notes = [f"{len(lengths):,} texts of {lengths_said}"]
        if self._faults:
            notes.append(f"{len(self._faults):,} left out of {self.origin}: {self._listed()}")
        return tuple(notes)


def written(value: Any) -> str:
    """Return a name or label as people write it: a string stripped and in NFC, a whole number without a point."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None or value != value else unicodedata.normalize("NFC", str(value)).strip()


def sorted_labels(labels: set[str]) -> tuple[str, ...]:
    """Sort labels by their number if all are whole numbers, else as text."""
    if all(label.isascii() and label.removeprefix("-").isdigit() for label in labels):
        return tuple(sorted(labels, key=lambda label: (int(label), label)))
    return tuple(sorted(labels))
