"""Text in a CSV that a spreadsheet would evaluate: written so that it does not, and read back exactly."""

from __future__ import annotations

import asyncio
import csv
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from labelloop.csv_files.class_rows import read_class_rows
from labelloop.csv_files.formulas import guarded, meanings
from labelloop.domain.class_names import as_number, comparable
from labelloop.errors import InvalidInput
from labelloop.oracle.v1.oracle_pb2 import LabelRequest
from labelloop.trainer.v1.trainer_pb2 import LabelRecord
from labelloop_cli import tables
from labelloop_cli.labelled_samples import labelled_samples
from labelloop_cli.operations import export
from labelloop_cli.operations.open_samples import table_row, write_table
from labelloop_cli.sample_names import SampleNames

from oracle_svc.datasets.label_table import read_label_table
from tests.finding import FakeFinder

TEXTS = st.text(st.sampled_from("'=+-@\t1x\uff1d"), min_size=1, max_size=5).filter(str.strip)
NAMES = st.lists(TEXTS, min_size=2, max_size=6, unique_by=comparable)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("opened")


@given(TEXTS)
def test_no_cell_begins_as_a_formula_does_and_each_means_its_text(text: str) -> None:
    cell = guarded(text)
    is_negative = cell[:1] == "-" and cell[1:].isdecimal()
    assert is_negative or not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20"))
    assert meanings(cell)[0] == text


@pytest.mark.parametrize("text", ["-1", "-0.5", "-1,5", "-1e-07"])
def test_negative_numbers_stay_numbers(text: str) -> None:
    assert guarded(text) == text
    assert meanings(text) == (text,)
    assert guarded(f"{text}+1") == f"'{text}+1"
    assert guarded(f"'{text}") == f"''{text}"


@given(names=NAMES)
def test_exported_names_and_classes_run_nothing_and_are_read_back(folder: Path, names: list[str]) -> None:
    """Every sample is of the class that has its name."""
    path = folder / "labels.csv"
    records = [LabelRecord(sample_id=place, label=place, annotator=name) for place, name in enumerate(names)]
    shown = dict(enumerate(names))
    tables.write(export.named(export.LABELS, shown), export.label_rows(records, names, shown), path)
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            assert [row["name"], row["class_name"], row["annotator"]] == [guarded(names[int(row["id"])])] * 3
    rows, _ = read_class_rows(path)
    expected = {place: place for place in range(len(names))}
    numbered = any(as_number(comparable(name)) is not None for name in names)
    with suppress(InvalidInput) if numbered else nullcontext():  # two names may be one number
        assert asyncio.run(labelled_samples(rows, names, SampleNames(FakeFinder(names), "r"))) == expected


def test_an_apostrophe_that_may_be_part_of_a_class_needs_the_index(folder: Path) -> None:
    path, classes = folder / "classes.csv", ["=a", "'=a"]
    path.write_text("id,class,class_name\n0,1,'=a\n1,0,'=a\n2,1,''=a\n")
    rows, _ = read_class_rows(path)
    assert [row.class_index(classes) for row in rows] == [1, 0, 1]
    path.write_text("id,class_name\n0,'=a\n")
    rows, _ = read_class_rows(path)
    with pytest.raises(InvalidInput, match=r"row 2: .* may mean '=a' or"):
        next(iter(rows)).class_index(classes)


def opened(path: Path, names: Sequence[str], columns: Sequence[str]) -> None:
    """Write what ``label open`` writes, and fill in a class by the place of each sample."""
    requests = [LabelRequest(sample_id=place, sample_name=name) for place, name in enumerate(names)]
    write_table([table_row(request) for request in requests], path)
    encoding = "utf-8-sig"
    with path.open(newline="", encoding=encoding) as file:
        rows = list(csv.DictReader(file))
    with path.open("w", newline="", encoding=encoding) as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(row | {"class": f"c{place % 2}"} for place, row in enumerate(rows))


@given(names=NAMES, columns=st.sampled_from([["id", "name", "class"], ["name", "class"]]))
def test_names_that_look_like_formulas_come_back_to_their_samples(
    folder: Path, names: list[str], columns: list[str]
) -> None:
    path, expected = folder / "to_label.csv", {place: place % 2 for place in range(len(names))}
    opened(path, names, columns)
    are_clear = "id" in columns or not {guarded(comparable(name)) for name in names} & {*map(comparable, names)}
    for read in (submitted, label_file):
        with nullcontext() if are_clear else suppress(InvalidInput):
            assert read(path, names) == expected


def submitted(path: Path, names: Sequence[str]) -> dict[int, int]:
    rows, _ = read_class_rows(path)
    return asyncio.run(labelled_samples(rows, ["c0", "c1"], SampleNames(FakeFinder(names), "r")))


def label_file(path: Path, names: Sequence[str]) -> dict[int, int]:
    return dict(enumerate(read_label_table(path, len(names), names, ["c0", "c1"], "labels").labels.tolist()))


def test_names_that_nobody_guarded_are_understood(folder: Path) -> None:
    path = folder / "by_hand.csv"
    path.write_text("name,class\n'=a,c1\n=b,c0\n")
    for read in (submitted, label_file):
        assert read(path, ["'=a", "=b"]) == {0: 1, 1: 0}
    path.write_text("name,class\n'=z,c1\n")
    for read in (submitted, label_file):
        with pytest.raises(InvalidInput, match="row 2: the pool has no sample"):
            read(path, ["'=a", "=b"])


def test_texts_are_guarded_too() -> None:
    row = table_row(LabelRequest(sample_id=1, content=b"=SUM(A1)", media_type="text/plain; charset=utf-8"))
    assert row["text"] == "'=SUM(A1)"
