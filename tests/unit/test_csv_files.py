"""CSV files that people fill in: what editors and spreadsheets make of them, and what is wrong in them."""

from __future__ import annotations

import asyncio
import tracemalloc
from pathlib import Path
from unicodedata import normalize

import pytest
from labelloop.csv_files import decoding
from labelloop.csv_files.class_rows import read_class_rows
from labelloop.errors import InvalidInput, LabelloopError, LimitExceeded, NotFound
from labelloop_cli.labelled_samples import labelled_samples
from labelloop_cli.sample_names import SampleNames

from tests.finding import FakeFinder

PETS = ["cat", "dog"]
FILES = ["a.png", "b.png", "Käfer.png", "007"]


def written(folder: Path, data: bytes | str) -> Path:
    path = folder / "labels.csv"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def read(path: Path, classes: list[str] = PETS, finder: FakeFinder | None = None) -> dict[int, int]:
    rows, _ = read_class_rows(path)
    return asyncio.run(labelled_samples(rows, classes, SampleNames(finder or FakeFinder(FILES), "r")))


@pytest.mark.parametrize(
    "text",
    [
        "id,class\n0,cat\n2,dog\n",
        "id,class\r\n0,cat\r\n2,dog\r\n",
        "id,class\r0,cat\r2,dog",
        "\n\n id ; Class \n0; cat\n\n;\n2;dog ;\n",
        "sep=;\nid;class\n0;cat\n2;dog\n",
        "ID\tCLASS\n0\tcat\n2\tdog\n",
        "id|class\n0.0|0.0\n2.0|1\n",
        "class,note,id\ncat,\"said, sure\",0\ndog,,2\n",
        "name,class name\na.png,cat\nKäfer.png,dog\n",
        "id,name,class,class_name\n0,a.png,0,cat\n2,,,dog\n1,b.png,,\n",
        "id,class\n0,cat\n2,dog\n1\n",
        "id,class\n0,cat\n2,dog\n0,cat\n",
    ],
)  # fmt: skip
def test_files_that_say_the_same_are_read_the_same(tmp_path: Path, text: str) -> None:
    assert read(written(tmp_path, text)) == {0: 0, 2: 1}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252"])
def test_every_encoding_of_a_spreadsheet_is_read_and_only_a_guess_is_noted(tmp_path: Path, encoding: str) -> None:
    path = written(tmp_path, "name;class\r\nKäfer.png;Größe\r\n".encode(encoding))
    assert read(path, ["klein", "Größe"]) == {2: 1}
    _, notes = read_class_rows(path)
    assert list(notes) == ([f"{path} is not UTF-8 and was read as Windows-1252"] if encoding == "cp1252" else [])


def test_names_are_the_same_however_they_are_composed(tmp_path: Path) -> None:
    assert read(written(tmp_path, normalize("NFD", "name,class\nKäfer.png,Größe\n")), ["klein", "Größe"]) == {2: 1}


def test_an_id_and_a_name_that_a_spreadsheet_wrote_as_a_number_agree(tmp_path: Path) -> None:
    assert read(written(tmp_path, "id,name,class\n3,7,dog\n")) == {3: 1}


def test_ids_alone_need_no_names_of_the_pool(tmp_path: Path) -> None:
    finder = FakeFinder(FILES)
    assert read(written(tmp_path, "id,class\n3,dog\n"), finder=finder) == {3: 1}
    assert not finder.requests


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id,class\n1,cat\n1,dog\n", "row 3: its class is 'dog', but row 2 says 'cat' of the same sample"),
        ("id,class\n1,cow\n", "row 2: 'cow' is no class"),
        ("id,class\n\n1,dogg\n", "row 3: 'dogg' is no class of the run; did you mean 'dog'?"),
        ("id,class\nx,dog\n", "row 2: id is 'x', not a whole number"),
        ("id,class\n-1,dog\n", "row 2: id is '-1'"),
        ("id,class\n1.5,dog\n", "row 2: id is '1.5'"),
        ("id,class\n4294967296,dog\n", "row 2: id is '4294967296'"),
        ("id,class\n²,dog\n", "row 2: id is '²'"),
        ("id,class\n1,dog,cat\n", "row 2: it has 3 cells, but there are 2 columns"),
        ("class,id\ndog\n", "row 2: it has a class, but names no sample"),
        ("id,name,class\n1,a.png,dog\n", "row 2: sample 1 is 'b.png', not 'a.png'"),
        ("id,name,class\n9,a.png,dog\n", "row 2: the pool has no sample 9"),
        ("name,class\na.png,dog\nb.pgn,dog\n", "row 3: the pool has no sample 'b.pgn'; did you mean 'b.png'?"),
        ("id,class,class_name\n1,0,dog\n", "row 2: class is '0', the index of 'cat', but class_name is 'dog'"),
        ("id,class,class_name\n1,cat,dog\n", "row 2: class is 'cat', but class_name is 'dog'"),
        ('id,class\n1,"dog\n2,cat\n', "unexpected end of data"),
        ('id,class\n1,"dog"s\n', "line 2"),
        ("id\n1\n", "has the column id; it also needs class or class_name"),
        ("class\n1\n", "has the column class; it also needs id or name"),
        ("7,3\n8,1\n", "has the columns '7', '3', and none of those wanted: id, name, class, class_name"),
        ("id,class,ID\n1,dog,2\n", "has the column id twice"),
        ("", "it is empty"),
        ("\n \n", "it is empty"),
    ],
)
def test_an_error_names_the_file_and_the_row_at_fault(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(LabelloopError) as refused:
        read(written(tmp_path, text))
    assert said in refused.value.message
    assert "labels.csv" in refused.value.message


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"PK\x03\x04 and more", "it is a workbook: save its sheet as CSV"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "it is a workbook"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "it holds zero bytes"),
        ("id,class\n1,dog\n".encode("utf-16-le"), "it holds zero bytes"),
        (b"id,class\n1,\x81\n", "neither UTF-8 nor Windows-1252"),
        (b"\xff\xfei\0d\0,\0class", "its text is not utf-16"),
        (b"\xef\xbb\xbfid,class\n1,\xff\n", "its text is not utf-8-sig"),
        (b"id,class\n" + b"9" * 200_000 + b",1\n", "field larger than field limit"),
        (b"id,class\n" + b"9" * 2_000_000, "it has a line of more than"),
    ],
)
def test_what_is_no_csv_is_refused(tmp_path: Path, data: bytes, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        read(written(tmp_path, data))


def test_a_file_over_the_limit_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "BYTES_MAX", 10)
    with pytest.raises(LimitExceeded, match="has 11 bytes"):
        read(written(tmp_path, "id,class\n1,"))


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"there is no file .*labels\.csv"):
        read(tmp_path / "labels.csv")
    with pytest.raises(InvalidInput, match="it is no file"):
        read(tmp_path)


def test_with_classes_named_by_numbers_a_number_is_a_name(tmp_path: Path) -> None:
    assert read(written(tmp_path, "id,class\n0,1\n1,3.0\n"), ["1", "2", "3"]) == {0: 0, 1: 2}


def test_in_an_export_with_classes_named_by_numbers_the_column_class_holds_indices(tmp_path: Path) -> None:
    path = written(tmp_path, "id,class,class_name\n0,1,2\n1,0,1\n")
    assert read(path, ["1", "2", "3"]) == {0: 1, 1: 0}
    with pytest.raises(InvalidInput, match="row 2: class is '1', the index of '2', but class_name is '1'"):
        read(written(tmp_path, "id,class,class_name\n0,1,1\n"), ["1", "2", "3"])
    with pytest.raises(InvalidInput, match="row 2: class '1' may be a name or an index: fill in class_name"):
        read(written(tmp_path, "id,class,class_name\n0,1,\n"), ["1", "2", "3"])


def test_short_rows_of_a_file_with_many_columns_take_little_memory(tmp_path: Path) -> None:
    header = ",".join(["id", "class", *(f"c{number}" for number in range(20_000))])
    path = written(tmp_path, header + "\n" + "".join(f"{number},cat\n" for number in range(2_000)))
    tracemalloc.start()
    try:
        rows = list(read_class_rows(path)[0])
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()
    assert [row.sample_id for row in rows] == list(range(2_000))
    assert rows[0].class_texts == ("cat", "")
