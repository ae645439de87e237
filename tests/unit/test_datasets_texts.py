"""Pools of texts from tables and folders: read exactly, with names and labels, or refused with the row."""

from __future__ import annotations

import csv
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from labelloop.errors import Corrupt, InvalidInput, LabelloopError, LimitExceeded
from labelloop.events.v1.events_pb2 import SampleKind

from oracle_svc.datasets import Dataset, DatasetSource, load

ROWS = [("a1", "Первый, текст", "spam"), ("a2", 'Say "yes"\nand no', "ham"), ("a3", "اختبار 😀", "spam")]
COLUMNS = ("id", "text", "kind")


def loaded(path: Path, *, text: str = "text", **settings: Any) -> Dataset:
    return load(DatasetSource(str(path), text_column=text, **settings), data_dir=None, cache_dir=path.parent)


def full(path: Path, **settings: Any) -> Dataset:
    return loaded(path, id_column="id", label_column="kind", **settings)


def written_csv(path: Path, rows: Any = ROWS, delimiter: str = ",", encoding: str = "utf-8") -> Path:
    with path.open("w", newline="", encoding=encoding) as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(COLUMNS)
        writer.writerows(rows)
    return path


def written_jsonl(path: Path) -> Path:
    path.write_text("\n".join(json.dumps(dict(zip(COLUMNS, row, strict=True))) for row in ROWS))
    return path


def written_parquet(path: Path) -> Path:
    pq.write_table(pa.table(dict(zip(COLUMNS, zip(*ROWS, strict=True), strict=True))), path)
    return path


def check_rows(dataset: Dataset) -> None:
    assert list(dataset.samples[:]) == [text for _, text, _ in ROWS]
    assert list(dataset.names) == [name for name, _, _ in ROWS]
    assert dataset.classes == ("ham", "spam")
    assert dataset.labels is not None
    assert dataset.labels.tolist() == [1, 0, 1]
    assert dataset.layout is not None
    assert dataset.layout.kind == SampleKind.SAMPLE_KIND_TEXT
    assert "3 texts of 8 to 16 characters" in dataset.notes[0]


@pytest.mark.parametrize(
    ("delimiter", "suffix", "encoding"),
    [(",", ".csv", "utf-8"), (";", ".csv", "utf-8-sig"), ("\t", ".csv", "utf-8"), ("\t", ".tsv", "utf-8-sig")],
)
def test_csv_is_read_as_spreadsheets_write_it(tmp_path: Path, delimiter: str, suffix: str, encoding: str) -> None:
    check_rows(full(written_csv(tmp_path / f"pool{suffix}", ROWS, delimiter, encoding)))


def test_json_lines_are_read(tmp_path: Path) -> None:
    check_rows(full(written_jsonl(tmp_path / "pool.jsonl")))


def test_parquet_is_read(tmp_path: Path) -> None:
    check_rows(full(written_parquet(tmp_path / "pool.parquet")))


def test_texts_without_names_and_labels_need_classes(tmp_path: Path) -> None:
    path = written_csv(tmp_path / "pool.csv")
    dataset = loaded(path, classes=("x", "y"))
    assert (dataset.labels, list(dataset.names), dataset.classes) == (None, [], ("x", "y"))
    with pytest.raises(InvalidInput, match="at least two in classes"):
        loaded(path)


def test_a_folder_of_class_folders_is_read(tmp_path: Path) -> None:
    for name, text in (("ham/a.txt", "first"), ("ham/b.TXT", "\ufeffsecond"), ("spam/a.txt", "third\r\n")):
        (tmp_path / "pool" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "pool" / name).write_bytes(text.encode())
    (tmp_path / "pool" / ".DS_Store").write_text("none")
    dataset = loaded(tmp_path / "pool", text="")
    assert list(dataset.samples[:]) == ["first", "second", "third\r\n"]
    assert list(dataset.names) == ["ham/a.txt", "ham/b.TXT", "spam/a.txt"]
    assert dataset.classes == ("ham", "spam")
    assert dataset.labels is not None
    assert dataset.labels.tolist() == [0, 0, 1]


def test_a_flat_folder_has_no_labels(tmp_path: Path) -> None:
    (tmp_path / "pool").mkdir()
    (tmp_path / "pool" / "only.txt").write_text("one")
    dataset = loaded(tmp_path / "pool", text="", classes=("x", "y"))
    assert (list(dataset.samples[:]), list(dataset.names), dataset.labels) == (["one"], ["only.txt"], None)


def test_pictures_have_no_column_of_texts(tmp_path: Path) -> None:
    (tmp_path / "pool").mkdir()
    (tmp_path / "pool" / "a.png").write_bytes(b"none")
    with pytest.raises(InvalidInput, match="no file has a column 'text'"):
        loaded(tmp_path / "pool")
    with pytest.raises(InvalidInput, match="mnist brings its own") as caught:
        load(DatasetSource("mnist", text_column="text"), data_dir=None, cache_dir=tmp_path)
    assert caught.value.field == "text_column"


def test_evaluation_texts_may_lack_a_class(tmp_path: Path) -> None:
    evaluation = written_csv(tmp_path / "evaluation.csv", ROWS[:1])
    dataset = full(written_csv(tmp_path / "pool.csv"), evaluation=str(evaluation))
    assert dataset.evaluation_samples is not None
    assert dataset.evaluation_labels is not None
    assert (list(dataset.evaluation_samples), dataset.evaluation_labels.tolist()) == ([ROWS[0][1]], [1])


def test_evaluation_arrays_for_a_pool_of_texts_are_refused(tmp_path: Path) -> None:
    evaluation = tmp_path / "pictures"
    (evaluation / "ham").mkdir(parents=True)
    (evaluation / "ham" / "a.txt").write_text("x")
    with pytest.raises(InvalidInput, match="no columns"):
        full(written_csv(tmp_path / "pool.csv"), evaluation=str(evaluation))


@pytest.mark.parametrize("classes", [("ham", "spam", "other"), ("spam", "ham")])
def test_labels_are_names_of_the_classes_that_are_given(tmp_path: Path, classes: tuple[str, ...]) -> None:
    dataset = full(written_csv(tmp_path / "pool.csv"), classes=classes)
    assert dataset.labels is not None
    assert [dataset.classes[label] for label in dataset.labels] == [kind for _, _, kind in ROWS]


def test_numbers_are_indices_only_where_no_class_bears_them(tmp_path: Path) -> None:
    numbered = [(f"a{i}", "text", label) for i, label in enumerate(("2", "10", "2"))]
    path = written_csv(tmp_path / "pool.csv", numbered)
    assert full(path).classes == ("2", "10")
    labels = full(path, classes=tuple("abcdefghijk")).labels
    assert labels is not None
    assert labels.tolist() == [2, 10, 2]
    with pytest.raises(InvalidInput, match="the label '2' is no class of the run \\(classes: '10', 'x'\\)") as caught:
        full(path, classes=("10", "x"))
    assert caught.value.reason == "CLASS_MISMATCH"


def test_a_class_is_meant_by_name_or_equal_number_before_it_is_meant_by_index(tmp_path: Path) -> None:
    rows = [(f"a{i}", "text", label) for i, label in enumerate(("cat", " cafe\u0301", "1"))]
    path = written_csv(tmp_path / "pool.csv", rows)
    labels = full(path, classes=("caf\u00e9", "dog", "cat")).labels
    assert labels is not None
    assert labels.tolist() == [2, 0, 1]
    labels = full(path, classes=("caf\u00e9", "01", "cat")).labels
    assert labels is not None
    assert labels.tolist() == [2, 0, 1]
    with pytest.raises(InvalidInput, match="did you mean 'cats'"):
        full(path, classes=("caf\u00e9", "cats", "1"))


def test_thousands_of_labels_that_are_no_classes_are_refused_at_once(tmp_path: Path) -> None:
    path = written_csv(tmp_path / "pool.csv", [(f"a{i}", "text", f"k{i}") for i in range(2_000)])
    with pytest.raises(InvalidInput, match="the label 'k0' is no class") as caught:
        full(path, classes=tuple(f"c{i}" for i in range(2_000)))
    assert caught.value.reason == "CLASS_MISMATCH"


BAD_ROWS = {
    "an empty text": ("a4", " \n", "ham"),
    "a long text": ("a4", "x" * 100_001, "ham"),
    "an id that stands twice": ("a1", "x", "ham"),
    "no id": ("", "x", "ham"),
    "a short row": ("a4", "x"),
    "a long row": ("a4", "x", "ham", "more"),
}
SAID = {
    "an empty text": "row 5: the text is empty",
    "a long text": "row 5: the text has 100,001 characters, more than 100,000",
    "an id that stands twice": "row 5: its id 'a1' is that of row 2 too",
    "no id": "row 5: its id has 0 characters",
    "a short row": "row 5: it has 2 cells, but the header has 3",
    "a long row": "row 5: it has 4 cells, but the header has 3",
}


@pytest.mark.parametrize("what", BAD_ROWS)
def test_a_row_that_cannot_be_used_is_named_or_left_out(tmp_path: Path, what: str) -> None:
    path = written_csv(tmp_path / "pool.csv", [*ROWS, BAD_ROWS[what]])
    with pytest.raises(InvalidInput) as caught:
        full(path)
    assert SAID[what] in caught.value.message
    assert str(path) in caught.value.message
    assert (caught.value.reason, caught.value.field) == ("BAD_TEXTS", "name")
    dataset = full(path, skip_bad=True)
    check_rows(dataset)
    assert SAID[what] in dataset.notes[1]


def test_all_bad_rows_stand_in_one_message(tmp_path: Path) -> None:
    path = written_csv(tmp_path / "pool.csv", [*ROWS, *[("x", "", "ham")] * 30])
    with pytest.raises(InvalidInput, match=r"row 5: the text is empty; row 6.*and 10 more"):
        full(path)


def test_latin_1_is_refused_with_its_rows(tmp_path: Path) -> None:
    path = written_csv(tmp_path / "pool.csv", [("a1", "plain", "ham"), ("a2", "é", "spam")], encoding="latin-1")
    with pytest.raises(InvalidInput, match="row 3: it is not UTF-8: save the file as CSV UTF-8"):
        full(path)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no column 'text': its columns are none"),
        (b"id,body\n1,x\n", "no column 'text': its columns are 'id', 'body'"),
        (b"text,text\n1,x\n", "the column 'text' twice"),
        (b"text\n", "it holds no texts"),
        (b'text\n"never closed\n', "line 2: the line cannot be parsed"),
        (b'text\n"a"b\n', "line 2: the line cannot be parsed"),
        ("text\nx\n".encode("utf-16"), "it is UTF-16"),
        (b'text\n"' + b"x" * 1_000_001 + b'"\n', "field larger than field limit"),
    ],
)
def test_a_csv_that_is_none_is_refused(tmp_path: Path, data: bytes, said: str) -> None:
    (tmp_path / "pool.csv").write_bytes(data)
    limit = csv.field_size_limit()
    with pytest.raises(InvalidInput) as caught:
        loaded(tmp_path / "pool.csv", classes=("x", "y"))
    assert said in caught.value.message
    assert csv.field_size_limit() == limit


def test_a_file_without_lines_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pool.csv").write_bytes(b"\0" * 1_000_000)
    with pytest.raises(LimitExceeded, match="the first line has more than"):
        loaded(tmp_path / "pool.csv", classes=("x", "y"))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "it is not JSON"),
        ("[" * 100_000, "it is not JSON"),
        ("[1]", "it is no JSON object"),
        ('{"body": "x"}', "it has no 'text'"),
        ('{"text": 5}', "the text is int, not a string"),
        ('{"text": null}', "it has no text"),
        (r'{"text": "\ud800"}', "it holds half of a character"),
    ],
)
def test_a_json_line_that_cannot_be_used_is_named(tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "pool.jsonl").write_text('{"text": "good"}\n\n' + line + "\n")
    with pytest.raises(InvalidInput) as caught:
        loaded(tmp_path / "pool.jsonl", classes=("x", "y"))
    assert f"row 3: {said}" in caught.value.message


def test_a_damaged_parquet_file_is_refused(tmp_path: Path) -> None:
    path = written_parquet(tmp_path / "pool.parquet")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(Corrupt, match="cannot be read as Parquet"):
        full(path)


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pool.xlsx").write_bytes(b"PK")
    with pytest.raises(InvalidInput, match=r"save it as \.csv") as caught:
        loaded(tmp_path / "pool.xlsx")
    assert caught.value.reason == "ROWS_FORMAT"


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(suffix=st.sampled_from([".csv", ".tsv", ".jsonl", ".parquet"]), data=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(tmp_path: Path, suffix: str, data: bytes) -> None:
    path = tmp_path / f"pool{suffix}"
    path.write_bytes(b"text\n" + data)
    with suppress(LabelloopError):
        assert all(isinstance(text, str) for text in loaded(path, classes=("x", "y")).samples[:])
