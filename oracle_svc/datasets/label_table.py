"""Read the labels of a whole pool from a CSV file with a row for each sample."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import numpy as np
from labelloop.csv_files.class_rows import ClassRow, read_class_rows
from labelloop.csv_files.formulas import meanings
from labelloop.domain.class_names import as_number, comparable, near_match, same_name
from labelloop.errors import InvalidInput
from numpy.typing import NDArray

from .file_access import open_file

SUFFIXES = {".csv", ".tsv", ".txt"}
_UNKNOWN = {("-1", ""), ("", "-1")}
_CLASSES_MAX = 10_000


@dataclass(frozen=True)
class LabelTable:
    """Labels of a pool.

    Attributes:
        labels: [N], each the index of a class, -1 where it is unknown.
        classes: Class names, index = class.
        notes: What was assumed in reading, a sentence each.
    """

    labels: NDArray[np.int32]
    classes: tuple[str, ...]
    notes: tuple[str, ...]


def read_label_table(path: Path, count: int, names: Sequence[str], classes: Sequence[str], field: str) -> LabelTable:
    """Read the classes of ``count`` samples, as exports of labels and people write them.

    The class of a sample is unknown if it has no row, or only rows without a class or with the class -1, unless that is
    the name of one of ``classes``.

    Args:
        names: The samples' names, empty if they have none: then a name is an id.
        classes: The classes; if empty, they are those that occur, in the order of their indices if the file has both,
            else of their numbers or names.
        field: The setting to name in errors.

    Raises:
        InvalidInput: The file is no such CSV, a row names no sample of the pool or no class, or rows give a sample two
            classes.
    """
    try:
        rows, notes = read_class_rows(path, open_file)
        read = [row for row in rows if row.class_texts not in _UNKNOWN or "-1" in classes]
        ids = _sample_ids(read, count, names)
        chosen = tuple(classes) or _classes_of(path, read)
        labels = np.full(count, -1, np.int32)
        known: dict[tuple[str, str], int] = {}
        for row, sample_id in zip(read, ids, strict=True):
            texts = row.class_texts
            known[texts] = label = known[texts] if texts in known else row.class_index(chosen)
            if labels[sample_id] not in (-1, label):
                other = chosen[labels[sample_id]]
                raise row.row.fault(f"its class is {chosen[label]!r}, but an earlier row says {other!r}: leave one row")
            labels[sample_id] = label
    except InvalidInput as error:
        error.field = field
        raise
    return LabelTable(labels, chosen, tuple(notes))


def _sample_ids(rows: Iterable[ClassRow], count: int, names: Sequence[str]) -> list[int]:
    of_name = {comparable(name): sample_id for sample_id, name in enumerate(names)}
    return [_sample_id(row, count, names, of_name) for row in rows]


def _sample_id(row: ClassRow, count: int, names: Sequence[str], of_name: Mapping[str, int]) -> int:
    sample_id = row.sample_id
    if sample_id is None:
        number = as_number(row.name)
        is_id = not names and number is not None and number == int(number)
        sample_id = int(number or 0) if is_id else _named_sample(row, of_name)
        if sample_id < 0:
            question = near_match(row.name, names)
            raise row.row.fault(f"the pool has no sample {row.name!r}{'; ' + question if question else ''}")
    if sample_id >= count:
        raise row.row.fault(f"the pool has no sample {sample_id}: its ids end at {count - 1}")
    own = names[sample_id] if names else str(sample_id)
    if row.name and not any(same_name(own, each) for each in meanings(row.name)):
        raise row.row.fault(f"sample {sample_id} is {own!r}, not {row.name!r}: correct id or name")
    return sample_id


def _named_sample(row: ClassRow, of_name: Mapping[str, int]) -> int:
    """Return the sample that the row names, -1 if there is none."""
    found = {name: of_name[name] for name in map(comparable, meanings(row.name)) if name in of_name}
    if len(found) > 1:
        raise row.row.fault(f"{row.name!r} may mean {' or '.join(map(repr, sorted(found)))}: give the id")
    return next(iter(found.values()), -1)


def _classes_of(path: Path, rows: Iterable[ClassRow]) -> tuple[str, ...]:
    """Return the classes that occur."""
    texts = dict.fromkeys(row.class_texts for row in rows)
    names = dict.fromkeys(comparable(name or class_) for class_, name in texts)
    if len(names) > _CLASSES_MAX:
        message = f"{path} has {len(names)} different classes: is another column meant? At most {_CLASSES_MAX} are read"
        raise InvalidInput("TOO_MANY_CLASSES", message)
    indices = {comparable(name): as_number(class_) for class_, name in texts if name}
    numbered = len(indices) == len(names) and None not in indices.values()
    if numbered:
        return _by_index(path, {name: int(number) for name, number in indices.items() if number is not None})
    numbers = {number: name for name in reversed(names) if (number := as_number(name)) is not None}
    if all(as_number(name) is not None for name in names):
        return tuple(_plain(numbers[number], number) for number in sorted(numbers))
    return tuple(sorted(names))


def _plain(name: str, number: Decimal) -> str:
    """Return a class that is named by a number, without the fraction that a table adds to whole numbers: ``1.0``."""
    return str(int(number)) if number == int(number) and not name.isdigit() else name


def _by_index(path: Path, indices: Mapping[str, int]) -> tuple[str, ...]:
    """Return the classes in the order of their indices, as exports have them."""
    in_order = tuple(sorted(indices, key=lambda name: indices[name]))
    if [indices[name] for name in in_order] != [*range(len(in_order))]:
        message = (
            f"{path} does not have every class from 0 to {max(indices.values())} by name and number: give --classes"
        )
        raise InvalidInput("CLASSES_MISSING", message)
    return in_order
