"""Find the samples and classes that the rows of a file mean."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

from labelloop.csv_files.class_rows import ClassRow
from labelloop.csv_files.formulas import meanings
from labelloop.domain.class_names import comparable, same_name
from labelloop.errors import InvalidInput, LabelloopError, NotFound

from labelloop_cli.sample_names import SampleNames

_AT_ONCE = 50_000  # rows for which names are looked up together


async def labelled_samples(rows: Iterable[ClassRow], classes: Sequence[str], samples: SampleNames) -> dict[int, int]:
    """Return the class by sample id, in the order of ``rows``.

    Raises:
        InvalidInput: For a class that is none, a sample that the pool lacks, an id and a name of two samples, and two
            classes of one sample.
    """
    said: dict[int, tuple[int, int]] = {}  # class and number of the row
    rows = iter(rows)
    while some := list(islice(rows, _AT_ONCE)):
        ids = await _ids(some, samples)
        for row, sample_id, class_ in zip(some, ids, _classes(some, classes), strict=True):
            before, number = said.setdefault(sample_id, (class_, row.row.number))
            if before != class_:
                other = f"row {number} says {classes[before]!r} of the same sample"
                raise row.row.fault(f"its class is {classes[class_]!r}, but {other}: leave one row", field="class")
    return {sample_id: class_ for sample_id, (class_, _) in said.items()}


def _classes(rows: Sequence[ClassRow], classes: Sequence[str]) -> Iterator[int]:
    known: dict[tuple[str, ...], int] = {}  # rows repeat a few texts, and each search reads all names
    for row in rows:
        texts = tuple(row.row.cells.get(column, "") for column in ("class", "class_name"))
        if texts not in known:
            known[texts] = row.class_index(classes)
        yield known[texts]


async def _ids(rows: Sequence[ClassRow], samples: SampleNames) -> list[int]:
    nameless = [row for row in rows if row.sample_id is None]
    plain = [row for row in nameless if len(meanings(row.name)) == 1]
    try:
        by_name = dict(zip(map(id, plain), await samples.ids_of([row.name for row in plain]), strict=True))
    except NotFound as error:
        raise _of_row(error, plain) from error
    if len(plain) < len(nameless):
        all_ids = await samples.all_ids()
        by_name |= {id(row): _guarded_id(row, all_ids) for row in nameless if id(row) not in by_name}
    await _check_names([row for row in rows if row.sample_id is not None and row.name], samples)
    return [by_name[id(row)] if row.sample_id is None else row.sample_id for row in rows]


def _guarded_id(row: ClassRow, all_ids: Mapping[str, int]) -> int:
    """Return the sample that a name with an apostrophe means, which may be there to keep it from being a formula."""
    found = {comparable(each) for each in meanings(row.name)} & all_ids.keys()
    if not found:
        raise row.row.fault(f"the pool has no sample {meanings(row.name)[0]!r}", field="name")
    if len(found) > 1:
        raise row.row.fault(f"{row.name!r} may mean {' or '.join(map(repr, sorted(found)))}: give the id", field="name")
    return all_ids[found.pop()]


async def _check_names(rows: Sequence[ClassRow], samples: SampleNames) -> None:
    """Raise InvalidInput unless the id and the name of each row belong to one sample."""
    try:
        names = await samples.of([row.sample_id for row in rows if row.sample_id is not None])
    except InvalidInput as error:
        raise _of_row(error, rows) from error
    for row in rows:
        name = names[row.sample_id or 0]
        if not any(same_name(name, each) for each in meanings(row.name)):
            raise row.row.fault(
                f"sample {row.sample_id} is {name!r}, not {row.name!r}: correct id or name", field="name"
            )


def _of_row(error: LabelloopError, rows: Sequence[ClassRow]) -> InvalidInput:
    """Return the error with the row that it is about, by the sample that it says is missing."""
    missing = {*error.values.values()}
    for row in rows:
        if {comparable(row.name), str(row.sample_id)} & missing:
            return row.row.fault(error.message, field="name" if row.sample_id is None else "id")
    return InvalidInput(error.reason, f"{rows[0].row.path}: {error.message}", field=error.field)
