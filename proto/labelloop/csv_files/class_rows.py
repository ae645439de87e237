"""Read the classes of samples from CSV files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from labelloop.csv_files.decoding import Opener, open_plainly
from labelloop.csv_files.formulas import meanings
from labelloop.csv_files.rows import Row, Sheet, read_sheet
from labelloop.domain.class_names import as_number, class_named, class_of
from labelloop.errors import InvalidInput

COLUMNS = ("id", "name", "class", "class_name")
_ID = re.compile(r"([0-9]{1,10})([.,]0*)?")  # a spreadsheet may write 7 as 7.0
_ID_MAX = 2**32 - 1


@dataclass(frozen=True)
class ClassRow:
    """What a row says.

    Attributes:
        sample_id: The sample's id; None if the row has only its name.
        name: The sample's name; empty if the row has only its id.
    """

    row: Row
    sample_id: int | None
    name: str

    @property
    def class_texts(self) -> tuple[str, str]:
        """The cells of ``class`` and ``class_name``; empty for one that the file lacks."""
        return self.row.cells.get("class", ""), self.row.cells.get("class_name", "")

    def class_index(self, classes: Sequence[str]) -> int:
        """Return the index of the row's class among ``classes``.

        A class is given by name or index in the column ``class``, by name in ``class_name``, or in both, which then
        agree. An apostrophe in front of a name may be there to keep it from being a formula. Raises InvalidInput
        otherwise.
        """
        class_, class_name = self.class_texts
        try:
            class_, class_name = _meant(class_, "", classes), _meant(class_name, class_, classes)
            index = class_of(class_name or class_, classes)
            if "class_name" in self.row.cells and class_:
                _check_agreement(class_, class_name, index, classes)
            return index
        except InvalidInput as error:
            raise self.row.fault(error.message, field="class") from error


def _meant(cell: str, index: str, classes: Sequence[str]) -> str:
    """Return the name that a cell stands for, by the ``index`` beside it if it may be two classes' names."""
    found = {each: class_named(each, classes) for each in meanings(cell)}
    named = [each for each, at in found.items() if at is not None]
    if len(named) > 1:
        named = [each for each in named if as_number(index) == found[each]]
        if not named:
            message = f"{cell!r} may mean {' or '.join(map(repr, found))}: give the index of the class in class"
            raise InvalidInput("AMBIGUOUS_CLASS", message)
    return named[0] if named else next(iter(found))


def _check_agreement(class_: str, class_name: str, index: int, classes: Sequence[str]) -> None:
    """Check the column ``class`` of a file that also has ``class_name``, as exports do: there, numbers are indices."""
    number = as_number(class_)
    if number == index or (number is None and class_name and class_named(class_, classes) == index):
        return
    if class_name:
        is_index = number is not None and number in range(len(classes))
        means = f", the index of {classes[int(number or 0)]!r}" if is_index else ""
        message = (
            f"class is {class_!r}{means}, but class_name is {class_name!r}: correct one of them, or leave one empty"
        )
        raise InvalidInput("CLASSES_DIFFER", message)
    if number is not None:
        message = f"class {class_!r} may be a name or an index: fill in class_name"
        raise InvalidInput("AMBIGUOUS_CLASS", message)


def read_class_rows(path: Path, opener: Opener = open_plainly) -> tuple[Iterator[ClassRow], Sequence[str]]:
    """Open a CSV file with classes of samples.

    Returns:
        Its rows with a class, read as they are iterated over, and what was assumed in reading, a sentence each.

    Raises:
        NotFound: If there is no file.
        InvalidInput: If it is no CSV, or its columns do not name samples and classes; while iterating, for a row that
            has too many cells, or a class but no sample.
        LimitExceeded: If it is too large.
    """
    sheet = read_sheet(path, COLUMNS, opener)
    for needed in (("id", "name"), ("class", "class_name")):
        if not {*needed} & {*sheet.columns}:
            message = f"{path} has the column {' and '.join(sheet.columns)}; it also needs {' or '.join(needed)}"
            raise InvalidInput("NO_COLUMNS", message, path=path)
    return _class_rows(sheet), sheet.notes


def _class_rows(sheet: Sheet) -> Iterator[ClassRow]:
    for row in sheet.rows:
        if row.cells.get("class") or row.cells.get("class_name"):
            sample_id, name = _sample_id(row), row.cells.get("name", "")
            if sample_id is None and not name:
                raise row.fault("it has a class, but names no sample", field="id")
            yield ClassRow(row, sample_id, name)


def _sample_id(row: Row) -> int | None:
    text = row.cells.get("id", "")
    found = _ID.fullmatch(text)
    if text and not (found and int(found[1]) <= _ID_MAX):
        raise row.fault(f"id is {text[:60]!r}, not a whole number from 0 to {_ID_MAX}", field="id")
    return int(found[1]) if found else None
