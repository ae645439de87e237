"""Tables of numbers and categories as pools: what is read, left out, assumed and refused."""

from __future__ import annotations

import csv
import io
import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from labelloop.errors import Corrupt, InvalidInput, LabelloopError, LimitExceeded
from labelloop.events.v1.events_pb2 import SampleKind
from pyarrow import parquet

from oracle_svc.datasets import Dataset, DatasetSource, load

PEOPLE = """key,age,colour,height,kind
a,31,red,1.8,x
b,,blue,1.6,y
c,28,red,,x
"""


def read(path: Path, text: str | bytes = "", **settings: Any) -> Dataset:
    if text:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    source = DatasetSource(str(path), **{"classes": ("x", "y"), **settings})
    return load(source, data_dir=None, cache_dir=path.parent / "cache")


def refused(
    path: Path, text: str | bytes, kind: type[LabelloopError] = InvalidInput, **settings: Any
) -> LabelloopError:
    with pytest.raises(kind) as raised:
        read(path, text, **settings)
    return raised.value


def columns_of(dataset: Dataset) -> dict[str, list[str]]:
    assert dataset.layout is not None
    assert dataset.layout.kind == SampleKind.SAMPLE_KIND_ROW
    return {column.name: list(column.categories) for column in dataset.layout.columns}


def test_numbers_categories_names_and_labels_are_read(tmp_path: Path) -> None:
    dataset = read(tmp_path / "p.csv", PEOPLE, id_column="key", label_column="kind", classes=())
    assert columns_of(dataset) == {"age": [], "colour": ["blue", "red"], "height": []}
    nan = np.nan
    expected = np.array([[31, 1, 1.8], [nan, 0, 1.6], [28, 1, nan]], np.float32)
    np.testing.assert_array_equal(dataset.samples, expected)
    assert dataset.samples.dtype == np.float32
    assert (list(dataset.names), dataset.classes) == (["a", "b", "c"], ("x", "y"))
    assert dataset.labels is not None
    assert dataset.labels.tolist() == [0, 1, 0]
    assert dataset.layout is not None
    assert [column.has_missing for column in dataset.layout.columns] == [True, False, True]
    told = " ".join(dataset.notes)
    assert "2 columns of numbers: 'age', 'height'" in told
    assert "1 column of categories: 'colour'" in told
    assert "2 values are missing: 'age' (1), 'height' (1)" in told


@pytest.mark.parametrize("chosen", [("colour",), ("height", "age")])
def test_only_the_columns_that_are_named_are_seen_in_that_order(tmp_path: Path, chosen: tuple[str, ...]) -> None:
    assert tuple(columns_of(read(tmp_path / "p.csv", PEOPLE, columns=chosen))) == chosen


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\ufeffa;b\r\n1,5;rouge\r\n-,25;bleu\r\n", "commas are read as decimal points: 'a'"),
        ("a\tb\n1,5\trouge\n-,25\tbleu\n", "commas are read as decimal points: 'a'"),
        ('a,b\n1.5,"rouge"\n-.25,bleu\n\n', ""),
    ],
)
def test_tables_of_spreadsheets_are_read(tmp_path: Path, text: str, said: str) -> None:
    dataset = read(tmp_path / "p.csv", text)
    assert columns_of(dataset) == {"a": [], "b": ["bleu", "rouge"]}
    assert dataset.samples[:].tolist() == [[1.5, 1], [-0.25, 0]]
    assert said in " ".join(dataset.notes)


def test_western_letters_are_read_and_the_assumption_is_told(tmp_path: Path) -> None:
    dataset = read(tmp_path / "p.csv", "größe;a\nklein;1\nmäßig;2\n".encode("cp1252"))
    assert columns_of(dataset) == {"größe": ["klein", "mäßig"], "a": []}
    assert "Windows-1252" in dataset.notes[0]


def test_a_number_with_a_comma_is_a_category_where_commas_separate_cells(tmp_path: Path) -> None:
    assert columns_of(read(tmp_path / "p.csv", 'a,b\n"1,5",1\n"2",2\n')) == {"a": ["1,5", "2"], "b": []}


@pytest.mark.parametrize("cell", ["1_000", "0x1f", "inf", "１", "1e99999", "1 000", "--1", "true"])
def test_other_spellings_of_numbers_are_categories(tmp_path: Path, cell: str) -> None:
    assert columns_of(read(tmp_path / "p.csv", f"a,b\n{cell},1\n2,2\n"))["a"] == sorted([cell, "2"])


@pytest.mark.parametrize("cell", ["", " ", "NaN", "nan", "NA", "N/A", "null", "NULL", "#N/A"])
def test_missing_values_may_be_written_in_several_ways(tmp_path: Path, cell: str) -> None:
    dataset = read(tmp_path / "p.csv", f"a,b\n{cell},u\n1,{cell}\n2,v\n")
    np.testing.assert_array_equal(dataset.samples, np.array([[np.nan, 0], [1, np.nan], [2, 1]], np.float32))


def wide(kinds: int) -> str:
    return "a,free\n" + "".join(f"{row},{'z' * (row == 3)}w{row % kinds}\n" for row in range(300))


def test_a_column_of_too_many_categories_is_left_out_or_refused_by_name(tmp_path: Path) -> None:
    dataset = read(tmp_path / "p.csv", wide(300))
    assert columns_of(dataset) == {"a": []}
    assert "columns left out: 'free' (it is no column of numbers, since row 2 holds 'w0'" in " ".join(dataset.notes)
    assert len(columns_of(read(tmp_path / "q.csv", wide(199)))["free"]) == 200
    fault = refused(tmp_path / "p.csv", "", LimitExceeded, columns=("a", "free"))
    assert (fault.reason, "'free'" in fault.message) == ("TOO_MANY_CATEGORIES", True)


def test_columns_without_a_name_are_left_out(tmp_path: Path) -> None:
    dataset = read(tmp_path / "p.csv", ",a,\n0,1,\n1,3,\n")
    assert columns_of(dataset) == {"a": []}
    assert "2 without a name" in " ".join(dataset.notes)


@pytest.mark.parametrize(
    ("text", "settings", "reason", "said"),
    [
        ("a,b\n1,2\n1\n1,2,3\n", {}, "BAD_ROWS", "row 3: it has 1 cells, but the header has 2; row 4: it has 3"),
        ("k,a\nu,1\nu,2\n", {"id_column": "k"}, "BAD_ROWS", "row 3: its id 'u' is that of row 2"),
        ("k,a\n,1\n", {"id_column": "k"}, "BAD_ROWS", "row 2: its id has 0 characters"),
        ("a,y\n1,x\n2,z\n", {"label_column": "y"}, "CLASS_MISMATCH", "'z'"),
        ("a,b\n", {}, "EMPTY_POOL", "no rows"),
        ("a,b\n1,2\n", {"id_column": "c"}, "NO_COLUMN", "no column 'c'"),
        ("a,b\n1,2\n", {"columns": ("a", "c")}, "NO_COLUMN", "'a', 'b'"),
        ("a,a\n1,2\n", {}, "NO_COLUMN", "'a' twice"),
        ("a,y\n1,x\n", {"label_column": "y", "columns": ("a", "y")}, "LABEL_SEEN", "'y'"),
        ("a,b\n1,2\n1e16,2\n", {}, "SAMPLE_VALUE", "row 3, column 'a'"),
        ("a,b\n1,2\n1e300,2\n", {}, "SAMPLE_VALUE", "row 3, column 'a'"),
        ('a,b\n1,"2\n', {}, "BAD_CSV", "quotes"),
        ("k\nu\n", {"id_column": "k"}, "NO_COLUMNS", "none of its columns"),
    ],
)
def test_tables_that_cannot_be_used_are_refused_with_row_and_column(
    tmp_path: Path, text: str, settings: dict[str, Any], reason: str, said: str
) -> None:
    fault = refused(tmp_path / "p.csv", text, **settings)
    assert (fault.reason, said in fault.message) == (reason, True), fault.message
    assert str(tmp_path / "p.csv") in fault.message
    assert fault.field == "name"


def test_bad_rows_are_left_out_and_named_if_asked(tmp_path: Path) -> None:
    dataset = read(tmp_path / "p.csv", "k,a\nu,1\nu,2\nw\nv,3\n", id_column="k", skip_bad=True)
    assert (list(dataset.names), dataset.samples[:].ravel().tolist()) == (["u", "v"], [1, 3])
    assert "2 rows" in dataset.notes[-1]
    assert "row 3: its id 'u' is that of row 2 too; row 4:" in dataset.notes[-1]


def test_a_table_without_pyarrow_or_damaged_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused(tmp_path / "p.parquet", b"PAR1 but no more", Corrupt).reason == "PARQUET_DAMAGED"
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    fault = refused(tmp_path / "p.parquet", b"PAR1")
    assert "labelloop[parquet]" in fault.message


def test_parquet_is_read_like_csv(tmp_path: Path) -> None:
    when = [datetime(2024, 1, 1, tzinfo=UTC), None, datetime(2024, 1, 2, tzinfo=UTC)]
    table = pyarrow.table(
        {
            "key": [7, 8, 9],
            "n": [1, None, 3],
            "on": [True, False, None],
            "c": ["b", "a", "b"],
            "when": when,
            "y": [1, 0, 1],
        }
    )
    parquet.write_table(table, tmp_path / "p.parquet")
    dataset = read(tmp_path / "p.parquet", id_column="key", label_column="y", classes=())
    assert columns_of(dataset) == {"n": [], "on": ["False", "True"], "c": ["a", "b"], "when": []}
    nan, day = np.nan, when[0].timestamp()  # type: ignore[union-attr]
    expected = np.array([[1, 1, 1, day], [nan, 0, 0, nan], [3, nan, 1, day + 86_400]], np.float32)
    np.testing.assert_array_equal(dataset.samples, expected)
    assert list(dataset.names) == ["7", "8", "9"]
    assert dataset.labels is not None
    assert (dataset.classes, dataset.labels.tolist()) == (("0", "1"), [1, 0, 1])


def test_labels_that_are_numbers_make_classes_in_their_order(tmp_path: Path) -> None:
    text = "a,y\n" + "".join(f"{row},{row}\n" for row in (10, 9, 100))
    assert read(tmp_path / "p.csv", text, label_column="y", classes=()).classes == ("9", "10", "100")


def test_an_evaluation_set_has_the_columns_and_categories_of_the_pool(tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_text("kind,colour,age,more\nx,red,5,1\ny,green,,2\n")
    settings: dict[str, Any] = {
        "label_column": "kind",
        "columns": ("age", "colour"),
        "evaluation": str(tmp_path / "e.csv"),
    }
    dataset = read(tmp_path / "p.csv", PEOPLE, **settings)
    assert dataset.evaluation_samples is not None
    assert dataset.evaluation_labels is not None
    np.testing.assert_array_equal(dataset.evaluation_samples, np.array([[5, 1], [np.nan, np.nan]], np.float32))
    assert dataset.evaluation_labels.tolist() == [0, 1]
    assert "'colour' that the pool lacks count as missing: 'green'" in " ".join(dataset.notes)
    (tmp_path / "e.csv").write_text("kind,colour,age\nx,red,old\n")
    assert refused(tmp_path / "p.csv", PEOPLE, **settings).reason == "EVALUATION_KIND"


@pytest.mark.parametrize(("setting", "value"), [("id_column", "k"), ("label_column", "y"), ("columns", ("a",))])
def test_columns_are_refused_where_no_table_is_read(tmp_path: Path, setting: str, value: Any) -> None:
    np.save(tmp_path / "p.npy", np.zeros((3, 2), np.uint8))
    fault = refused(tmp_path / "p.npy", "", **{setting: value})
    assert (fault.reason, fault.field) == ("NOT_A_TABLE", setting)


def test_columns_are_refused_where_models_see_a_text(tmp_path: Path) -> None:
    fault = refused(tmp_path / "p.csv", "text,age\nhello,3\nworld,4\n", text_column="text", columns=("age",))
    assert (fault.reason, fault.field) == ("NOT_A_TABLE", "columns")


@pytest.mark.parametrize(("setting", "value"), [("size", "8x8"), ("background", "#000000")])
def test_settings_of_pictures_are_refused_for_a_folder_of_texts(tmp_path: Path, setting: str, value: str) -> None:
    (tmp_path / "a.txt").write_text("hello")
    source = DatasetSource(str(tmp_path), classes=("a", "b"), **{setting: value})  # type: ignore[arg-type]
    with pytest.raises(InvalidInput) as caught:
        load(source, data_dir=None, cache_dir=tmp_path)
    assert (caught.value.reason, caught.value.field) == ("NOT_PICTURES", setting)


def written(rows: list[list[str]], delimiter: str, line_end: str) -> str:
    file = io.StringIO()
    csv.writer(file, delimiter=delimiter, lineterminator=line_end).writerows(rows)
    return file.getvalue()


@pytest.mark.parametrize("seed", range(30))
def test_any_spelling_of_a_table_gives_the_same_pool(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    words = ["red", "b;l,u\te", 'a "quote"', "two\nlines", "größe", "日本", "<b>", "0", "-1"]
    numbers = [round(rng.uniform(-1e3, 1e3), 3) for _ in range(40)]
    cells = [[f"{number:.3f}", rng.choice(words)] for number in numbers]
    delimiter, comma = rng.choice([(",", "."), (";", "."), (";", ","), ("\t", ",")])
    rows = [["n", "c"], *([number.replace(".", comma), word] for number, word in cells)]
    text = written(rows, delimiter, rng.choice(["\n", "\r\n"]))
    dataset = read(tmp_path / "p.csv", rng.choice([b"", b"\xef\xbb\xbf"]) + text.encode())
    np.testing.assert_array_equal(dataset.samples[:, 0], np.array(numbers, np.float32))
    names = columns_of(dataset)["c"]
    assert [names[int(code)] for code in dataset.samples[:, 1]] == [word for _, word in cells]
