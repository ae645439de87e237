"""Hold what a run gives: tables of labels, and what its model says of samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from labelloop.errors import InvalidInput
from numpy.typing import NDArray

from labelloop_cli import tables
from labelloop_cli.tables import Kind, Table

_PANDAS = {Kind.COUNT: "UInt32", Kind.FLAG: "boolean", Kind.TEXT: "string", Kind.REAL: "Float32"}


class Records(Sequence[dict[str, Any]]):
    """Rows of a table as dictionaries, in order; missing values are None."""

    def __init__(self, table: Table) -> None:
        self._table = table

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return [*self._table.columns]

    def __len__(self) -> int:
        return len(self._table.rows)

    @overload
    def __getitem__(self, place: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, place: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, place: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        if isinstance(place, slice):
            return [self._named(row) for row in self._table.rows[place]]
        return self._named(self._table.rows[place])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return map(self._named, self._table.rows)

    def __repr__(self) -> str:
        return f"<Records: {len(self)} rows of {', '.join(self.columns)}>"

    def _named(self, row: Sequence[Any]) -> dict[str, Any]:
        return dict(zip(self._table.columns, row, strict=True))

    def to_arrow(self) -> Any:
        """Return a ``pyarrow.Table`` of the types that exported Parquet files have. InvalidInput without pyarrow."""
        return tables.arrow(self._table)

    def to_pandas(self) -> Any:
        """Return a ``pandas.DataFrame`` with types that can hold missing values. InvalidInput without pandas."""
        try:
            import pandas
        except ImportError as error:
            raise InvalidInput("PANDAS_MISSING", "a data frame takes pandas: pip install pandas") from error
        values = list(zip(*self._table.rows, strict=True)) or [()] * len(self._table.columns)
        return pandas.DataFrame(
            {
                name: pandas.to_datetime(pandas.Series(column, dtype="object"), utc=True)
                if kind is Kind.TIME
                else pandas.array(column, dtype=_PANDAS[kind])
                for (name, kind), column in zip(self._table.columns.items(), values, strict=True)
            }
        )


@dataclass(frozen=True)
class Scores:
    """What a model says of samples, in their order.

    Attributes:
        model_sha256: The model that answered.
        classes: Class names.
        predicted: The most probable class of each, ``[n]``.
        confidence: Its probability, ``[n]``, in [0, 1].
        probabilities: ``[n, classes]``; None if they were not asked for.
    """

    model_sha256: str
    classes: tuple[str, ...]
    predicted: NDArray[np.int64]
    confidence: NDArray[np.float32]
    probabilities: NDArray[np.float32] | None = None

    @property
    def class_names(self) -> list[str]:
        """The name of the most probable class of each sample."""
        return [self.classes[each] for each in self.predicted.tolist()]
