"""Read a table of numbers and categories as a pool: a sample is a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from labelloop.errors import InvalidInput, LimitExceeded
from labelloop.events.v1.events_pb2 import SampleKind, SampleLayout, TableColumn
from numpy.typing import NDArray

from .arrays import FLOAT_MAX
from .column import CATEGORIES_MAX, Column
from .dataset import DatasetSource
from .table_file import TableFile
from .table_rows import TableRows
from .unknown_labels import named_labels

_COLUMNS_MAX = 10_000
_NAMED_MAX = 10


@dataclass(frozen=True)
class Table:
    """Rows [N, columns] float32, their labels [N] and the names of the classes, their names, layout and notes."""

    samples: NDArray[np.float32]
    labels: NDArray[np.int64] | None
    classes: tuple[str, ...]
    names: tuple[str, ...]
    layout: SampleLayout
    notes: tuple[str, ...]


def read_table(path: Path, source: DatasetSource, setting: str, like: SampleLayout | None = None) -> Table:
    """Read the columns that ``source`` names, or all but those of ids and labels.

    A column holds numbers if all of its cells do, apart from missing ones, which are NaN. Else it holds categories, at
    most 200, whose values are their places in alphabetical order. Other columns are left out, or refused if they were
    asked for by name.

    Args:
        path: The file.
        source: Which columns hold what, and whether bad rows are left out.
        setting: The setting that names ``path``, for errors.
        like: Layout of the pool, for an evaluation set: the same columns and categories. A category that the pool
            lacks is missing.

    Raises:
        InvalidInput: A row or column cannot be used, or the file is no table.
        LimitExceeded: There are too many columns, or categories in a column that was asked for.
        Corrupt: The file is damaged.
    """
    file = TableFile.at(path, setting)
    wanted, left_out = _wanted(file, source, like)
    rows = TableRows(file, source, wanted)
    rows.read()
    columns = [column for column in rows.columns if not column.fault]
    left_out += [f"{column.name!r} ({column.fault})" for column in rows.columns if column.fault]
    if faults := [column for column in rows.columns if column.fault and (source.columns or like)]:
        _refuse_categories(file, faults[0])
    if not columns:
        raise _refusal(file, "NO_COLUMNS", f"none of its columns can be used: {'; '.join(left_out[:_NAMED_MAX])}")
    layout, unknown = _layout(file, columns, like)
    samples = np.stack([_values(column, each) for column, each in zip(columns, layout.columns, strict=True)], axis=1)
    _check_values(file, samples, columns, rows)
    labels, classes, assumed = named_labels(rows.labels, source.classes)
    return Table(
        samples=samples,
        labels=labels if source.label_column else None,
        classes=classes if source.label_column else (),
        names=tuple(rows.names),
        layout=layout,
        notes=(*file.notes, *_told(columns, left_out), *unknown, *assumed, *rows.notes),
    )


def _wanted(file: TableFile, source: DatasetSource, like: SampleLayout | None) -> tuple[list[str], list[str]]:
    """Return the columns to read, and those that cannot be, with the reason."""
    keys = {name for name in (source.id_column, source.label_column) if name}
    named = [column.name for column in like.columns] if like else list(source.columns)
    if source.label_column and source.label_column in named:
        raise _refusal(
            file, "LABEL_SEEN", f"models would see the label {source.label_column!r}: leave it out of columns"
        )
    wanted = named or [name for name in dict.fromkeys(file.header) if name and name not in keys]
    if len(wanted) > _COLUMNS_MAX:
        message = f"{file.path} has {len(wanted):,} columns, more than {_COLUMNS_MAX:,}: name those to use"
        raise LimitExceeded("TOO_MANY_COLUMNS", message, field=file.setting, path=file.path)
    unnamed = sum(not name for name in file.header)
    return wanted, [f"{unnamed} without a name"] if unnamed and not named else []


def _layout(
    file: TableFile, columns: Sequence[Column], like: SampleLayout | None
) -> tuple[SampleLayout, tuple[str, ...]]:
    """Return the layout of the columns, and notes on categories that ``like`` lacks."""
    if like is None:
        described = [
            TableColumn(name=each.name, categories=each.categories(), has_missing=each.missing_count > 0)
            for each in columns
        ]
        return SampleLayout(kind=SampleKind.SAMPLE_KIND_ROW, columns=described), ()
    unknown = []
    for column, known in zip(columns, like.columns, strict=True):
        if column.why_no_number and not known.categories:
            why = f"the pool's column {column.name!r} holds numbers, but {column.why_no_number}"
            raise _refusal(file, "EVALUATION_KIND", f"{why}: prepare both alike")
        if known.categories and not column.has_few:
            _refuse_categories(file, column)
        if known.categories and (odd := [name for name in column.spellings() if name not in set(known.categories)]):
            names = ", ".join(map(repr, odd[:_NAMED_MAX]))
            unknown.append(f"categories of {column.name!r} that the pool lacks count as missing: {names}")
    return like, tuple(unknown)


def _values(column: Column, described: TableColumn) -> NDArray[np.float32]:
    return column.codes(described.categories) if described.categories else column.numbers()


def _check_values(file: TableFile, samples: NDArray[np.float32], columns: Sequence[Column], rows: TableRows) -> None:
    with np.errstate(invalid="ignore"):
        bad = np.abs(samples) > FLOAT_MAX
    if bad.any():
        row, place = np.argwhere(bad)[0].tolist()
        why = f"{rows.place(row)}, column {columns[place].name!r}: the number is larger than {FLOAT_MAX:.0e} in size"
        raise _refusal(file, "SAMPLE_VALUE", f"{why}: scale the column, or leave it out")


def _refuse_categories(file: TableFile, column: Column) -> None:
    why = column.fault or f"it has more than {CATEGORIES_MAX} categories"
    message = f"{file.path}: column {column.name!r} cannot be used, because {why}: leave it out of columns"
    raise LimitExceeded("TOO_MANY_CATEGORIES", message, field=file.setting, column=column.name, most=CATEGORIES_MAX)


def _refusal(file: TableFile, reason: str, why: str) -> InvalidInput:
    return InvalidInput(reason, f"{file.path}: {why}", field=file.setting, path=file.path)


def _told(columns: Sequence[Column], left_out: Sequence[str]) -> list[str]:
    numbers = [column.name for column in columns if not column.why_no_number]
    named = [column.name for column in columns if column.why_no_number]
    told = [
        f"{len(names)} column{'s' * (len(names) > 1)} of {kind}: {_listed(list(map(repr, names)))}"
        for kind, names in (("numbers", numbers), ("categories", named))
        if names
    ]
    if missing := {column.name: column.missing_count for column in columns if column.missing_count}:
        where = _listed([f"{name!r} ({count:,})" for name, count in missing.items()])
        told.append(f"{sum(missing.values()):,} values are missing: {where}")
    if commas := [column.name for column in columns if column.has_commas and not column.why_no_number]:
        told.append(f"commas are read as decimal points: {_listed(list(map(repr, commas)))}")
    if left_out:
        told.append(f"columns left out: {_listed(left_out)}")
    return told


def _listed(items: Sequence[str]) -> str:
    more = len(items) - _NAMED_MAX
    return ", ".join([*items[:_NAMED_MAX], *([f"and {more:,} more"] if more > 0 else [])])
