"""Collect the rows of a table: their columns, names and labels, and what is wrong with rows."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence

from labelloop.domain.abandonment import wanted
from labelloop.errors import InvalidInput

from .column import Column
from .dataset import DatasetSource
from .reading import check_size
from .row import Row, not_unicode, place
from .table_file import TableFile
from .text_set import written

_FAULTS_NAMED = 20
_CELL_BYTES = 16  # while rows are read
_CHECKED_EVERY = 1_000
_NAME_CHARACTERS_MAX = 1_000


class TableRows:
    """The rows of ``file``, read by :meth:`read`.

    Attributes:
        columns: What models see, column by column.
        names: The name of each row and its index among those that are read; empty without a column of ids.
        labels: The label of each row as it is written, empty where it is unknown; no labels without a column of labels.
        numbers: The number of each row in its file.
    """

    def __init__(self, file: TableFile, source: DatasetSource, columns: Sequence[str]) -> None:
        self._file, self._source = file, source
        self.columns = [Column(name, decimal_comma=file.decimal_comma) for name in columns]
        self.names: dict[str, int] = {}
        self.labels: list[str] = []
        self.numbers = array("q")
        self._faults: list[str] = []
        self._files: list[tuple[int, str]] = []  # the first row of each, and its name

    def read(self) -> None:
        """Read all rows. Raises InvalidInput for those that cannot be used, all together, unless they are skipped."""
        keys = [name for name in (self._source.id_column, self._source.label_column) if name]
        for row in wanted(self._file.rows([*keys, *(column.name for column in self.columns)])):
            self._add(row, len(keys))
        if self._faults and not self._source.skip_bad:
            self._refuse("BAD_ROWS", f"{self._listed()}: mend them, or leave them out (--skip-bad)")
        if not self.numbers:
            self._refuse("EMPTY_POOL", "it holds no rows: name a table that does")

    def _add(self, row: Row, key_count: int) -> None:
        keys, cells = [written(cell) for cell in row.cells[:key_count]], row.cells[key_count:]
        name = keys[0] if keys and self._source.id_column else ""
        label = keys[-1] if keys and self._source.label_column else ""
        if fault := row.fault or self._fault(name, label):
            self._faults.append(f"{row.place}: {fault}")
            return
        for column, cell in zip(self.columns, cells, strict=True):
            column.add(cell, row)
        if self._source.id_column:
            self.names[name] = len(self.numbers)
        if self._source.label_column:
            self.labels.append(label)
        if not self._files or self._files[-1][1] != row.file:
            self._files.append((len(self.numbers), row.file))
        self.numbers.append(row.number)
        if len(self.numbers) % _CHECKED_EVERY == 0:
            check_size(len(self.numbers) * (len(self.columns) + 1) * _CELL_BYTES, str(self._file.path))

    def _fault(self, name: str, label: str) -> str:
        if not_unicode(name + label):
            return "it holds half of a character, which is no Unicode"
        if self._source.id_column and not 1 <= len(name) <= _NAME_CHARACTERS_MAX:
            return f"its id has {len(name):,} characters, not 1 to {_NAME_CHARACTERS_MAX:,}"
        if name in self.names:
            return f"its id {name!r} is that of {self.place(self.names[name])} too"
        return ""

    def place(self, index: int) -> str:
        """Return the number of a row that is read, and its file where there are several, for errors."""
        file = bisect_right(self._files, index, key=lambda each: each[0]) - 1
        return place(self.numbers[index], self._files[file][1])

    def _refuse(self, reason: str, why: str) -> None:
        path, setting = self._file.path, self._file.setting
        raise InvalidInput(reason, f"{path}: {why}", field=setting, path=path)

    def _listed(self) -> str:
        more = len(self._faults) - _FAULTS_NAMED
        return "; ".join([*self._faults[:_FAULTS_NAMED], *([f"and {more:,} more"] if more > 0 else [])])

    @property
    def notes(self) -> tuple[str, ...]:
        left_out = f"{len(self._faults):,} rows of {self._file.path} left out: {self._listed()}"
        return (left_out,) if self._faults else ()
