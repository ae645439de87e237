"""Exported labels come back as they were, whatever a spreadsheet makes of the file."""

from __future__ import annotations

import asyncio
import csv
import io
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal
from unicodedata import normalize

import pytest
from hypothesis import given
from hypothesis import strategies as st
from labelloop.csv_files.class_rows import read_class_rows
from labelloop.domain.class_names import comparable
from labelloop.errors import InvalidInput
from labelloop.trainer.v1.trainer_pb2 import LabelRecord
from labelloop_cli import tables
from labelloop_cli.labelled_samples import labelled_samples
from labelloop_cli.operations import export
from labelloop_cli.sample_names import SampleNames

from tests.finding import FakeFinder

# Without controls, which no file name has and which csv readers take for ends of lines; without "sep=", see below.
WORDS = st.one_of(
    st.text(st.characters(exclude_categories=("C", "Zl", "Zp")), min_size=1, max_size=12),
    st.text(st.sampled_from("0123456789.,;\"' -\u00e9e\u0301"), min_size=1, max_size=6),
    st.integers(0, 30).map(str),
    st.integers(0, 30).map("{:03}".format),
).filter(str.strip)
NAMES = st.lists(WORDS, min_size=2, max_size=8, unique_by=comparable)
Form = Literal["NFC", "NFD"]
LABELS = st.lists(st.integers(0, 7), min_size=1, max_size=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("labels")


def exported(path: Path, classes: Sequence[str], names: Sequence[str], labels: Sequence[int]) -> dict[int, int]:
    """Write the labels of the first samples; return them by sample."""
    said = {sample_id: label % len(classes) for sample_id, label in enumerate(labels[: len(names)])}
    records = [LabelRecord(sample_id=sample_id, label=label) for sample_id, label in said.items()]
    by_id = dict(enumerate(names))
    path.unlink(missing_ok=True)  # as it was saved by another program, it would not be written over
    tables.write(export.named(export.LABELS, by_id), export.label_rows(records, classes, by_id), path)
    return said


def read(path: Path, classes: Sequence[str], names: Sequence[str]) -> dict[int, int]:
    rows, _ = read_class_rows(path)
    return asyncio.run(labelled_samples(rows, classes, SampleNames(FakeFinder(names), "r")))


def rewritten(path: Path, columns: Sequence[str], delimiter: str, encoding: str, form: Form) -> None:
    """Save the file as another program would: with other columns, separators, line ends, encoding and composition."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, delimiter=delimiter, lineterminator="\r\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    path.write_bytes(normalize(form, text.getvalue()).encode(encoding))


@given(classes=NAMES, names=NAMES, labels=LABELS)
def test_an_export_is_read_back_as_it_is(folder: Path, classes: list[str], names: list[str], labels: list[int]) -> None:
    path = folder / "as-is.csv"
    said = exported(path, classes, names, labels)
    assert read(path, classes, names) == said


@given(
    classes=NAMES,
    names=NAMES,
    labels=LABELS,
    samples=st.sampled_from([["id"], ["name"], ["name", "id"]]),
    classed=st.sampled_from([["class_name"], ["class", "class_name"]]),
    others=st.sampled_from([[], ["time", "score"]]),
    delimiter=st.sampled_from(",;\t"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    form=st.sampled_from(["NFC", "NFD"]),
    data=st.data(),
)
def test_a_saved_export_gives_the_same_labels_to_the_same_samples(
    folder: Path,
    classes: list[str],
    names: list[str],
    labels: list[int],
    samples: list[str],
    classed: list[str],
    others: list[str],
    delimiter: str,
    encoding: str,
    form: Form,
    data: st.DataObject,
) -> None:
    path = folder / "saved.csv"
    said = exported(path, classes, names, labels)
    rewritten(path, data.draw(st.permutations(samples + classed + others)), delimiter, encoding, form)
    assert read(path, classes, names) == said


def as_a_spreadsheet_shows(cell: str) -> str:
    """Return a cell as a spreadsheet saves it that took it for a number."""
    number = cell.strip()
    return str(float(number)).removesuffix(".0") if re.fullmatch(r"[0-9]+(\.[0-9]+)?", number) else cell


@given(classes=NAMES, names=NAMES, labels=LABELS)
def test_numbers_that_a_spreadsheet_reformats_give_the_same_labels_or_an_error(
    folder: Path, classes: list[str], names: list[str], labels: list[int]
) -> None:
    path = folder / "numbers.csv"
    said = exported(path, classes, names, labels)
    with path.open(encoding="utf-8", newline="") as file:
        rows = [[as_a_spreadsheet_shows(cell) for cell in row] for row in csv.reader(file)]
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file, delimiter=";").writerows(rows)
    with suppress(InvalidInput):
        assert read(path, classes, names) == said
