"""Labels of a whole pool from a CSV file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from labelloop.domain.class_names import as_number, comparable
from labelloop.errors import InvalidInput
from labelloop.trainer.v1.trainer_pb2 import LabelRecord
from labelloop_cli import tables
from labelloop_cli.operations import export

from oracle_svc.datasets.dataset import DatasetSource
from oracle_svc.datasets.files import load_files
from oracle_svc.datasets.label_table import LabelTable, read_label_table

FILES = ["a.png", "b.png", "7"]


def read(
    folder: Path, text: str, names: list[str] = FILES, classes: tuple[str, ...] = (), count: int = 3
) -> LabelTable:
    path = folder / "labels.csv"
    path.write_bytes(text.encode())
    return read_label_table(path, count, names, classes, "labels")


@pytest.mark.parametrize(
    ("text", "classes", "labels"),
    [
        ("name,class\nb.png,dog\n7,cat\na.png,dog\n", ("cat", "dog"), [1, 1, 0]),
        ("id;class\r\n2;b\r\n1;c\r\n0;a\r\n", ("a", "b", "c"), [0, 2, 1]),
        ("id,class\n0,10\n1,9\n2,10\n", ("9", "10"), [1, 0, 1]),
        ("id,class\n0,10.0\n1,9.0\n2,10\n", ("9", "10"), [1, 0, 1]),
        ("id,class\n0,01\n1,02\n2,01\n", ("01", "02"), [0, 1, 0]),
        ("id,class,class_name\n0,1,cat\n1,0,dog\n2,1,cat\n", ("dog", "cat"), [1, 0, 1]),
        ("id,class,class_name\n0,1,2\n1,0,1\n2,1,2\n", ("1", "2"), [1, 0, 1]),
        ("id,name,class,class_name\n0,a.png,,x\n1,b.png,,y\n2,7,,x\n0,,,x\n", ("x", "y"), [0, 1, 0]),
    ],
)
def test_classes_are_those_that_occur_in_the_order_of_their_indices_numbers_or_names(
    tmp_path: Path, text: str, classes: tuple[str, ...], labels: list[int]
) -> None:
    table = read(tmp_path, text)
    assert table.classes == classes
    assert table.labels.tolist() == labels


def test_named_classes_keep_their_order_and_may_lack_samples(tmp_path: Path) -> None:
    table = read(tmp_path, "id,class\n0,dog\n1,2\n2,dog\n", classes=("fish", "dog", "cat"))
    assert (table.classes, table.labels.tolist()) == (("fish", "dog", "cat"), [1, 2, 1])


def test_without_names_a_name_is_an_id(tmp_path: Path) -> None:
    table = read(tmp_path, "name,class\n1,b\n0,a\n", names=[], count=2)
    assert table.labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id,class\n3,a\n", "row 2: the pool has no sample 3: its ids end at 2"),
        ("name,class\nb.pgn,a\n", "row 2: the pool has no sample 'b.pgn'; did you mean 'b.png'"),
        ("id,name,class\n0,b.png,a\n", "row 2: sample 0 is 'a.png', not 'b.png'"),
        ("id,class\n0,a\n0,b\n", "row 3: its class is 'b', but an earlier row says 'a'"),
        ("id,class,class_name\n0,0,a\n1,2,b\n2,0,a\n", "does not have every class from 0 to 2"),
        ("a,b\n1,2\n", "none of those wanted"),
    ],
)
def test_an_error_names_what_is_wrong_and_the_setting(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read(tmp_path, text)
    assert said in refused.value.message
    assert refused.value.field == "labels"


def test_a_class_that_was_not_named_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="row 3: 'cow' is no class"):
        read(tmp_path, "id,class\n0,dog\n1,cow\n2,dog\n", classes=("cat", "dog"))


def test_more_classes_than_a_run_may_have_are_refused(tmp_path: Path) -> None:
    text = "id,class\n" + "".join(f"{each},c{each}\n" for each in range(10_001))
    with pytest.raises(InvalidInput, match="10001 different classes: is another column meant"):
        read(tmp_path, text, names=[], count=10_001)


WORDS = st.one_of(
    st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]), min_size=1, max_size=8), st.integers(0, 99).map(str)
).filter(lambda word: bool(word.strip()) and (as_number(word.strip()) is None or word.isdecimal()))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables")


@given(
    classes=st.lists(WORDS, min_size=2, max_size=6, unique_by=comparable),
    names=st.lists(WORDS, min_size=1, max_size=6, unique_by=comparable),
    data=st.data(),
)
def test_an_export_of_all_labels_is_read_back_with_its_classes(
    folder: Path, classes: list[str], names: list[str], data: st.DataObject
) -> None:
    labels = [data.draw(st.integers(0, len(classes) - 1)) for _ in names]
    records = [LabelRecord(sample_id=sample_id, label=label) for sample_id, label in enumerate(labels)]
    by_id = dict(enumerate(names))
    tables.write(export.named(export.LABELS, by_id), export.label_rows(records, classes, by_id), folder / "labels.csv")
    table = read_label_table(folder / "labels.csv", len(names), names, classes, "labels")
    assert (table.classes, table.labels.tolist()) == (tuple(classes), labels)


def test_a_pool_and_its_evaluation_set_take_their_labels_from_tables(tmp_path: Path) -> None:
    np.save(tmp_path / "pool.npy", np.zeros((3, 8, 8), np.uint8))
    np.save(tmp_path / "test.npy", np.zeros((2, 8, 8), np.uint8))
    (tmp_path / "pool.csv").write_bytes("id;class\n0;cat\n1;Käfer\n2;cat\n".encode("cp1252"))
    (tmp_path / "test.tsv").write_bytes(b"id\tclass\n1\tcat\n0\t1\n")
    samples, labels, evaluation, evaluation_labels = (
        str(tmp_path / name) for name in ("pool.npy", "pool.csv", "test.npy", "test.tsv")
    )
    source = DatasetSource(samples, labels, evaluation, evaluation_labels)
    dataset = load_files(source, tmp_path)
    assert dataset.labels is not None
    assert dataset.evaluation_labels is not None
    assert (dataset.classes, dataset.labels.tolist()) == (("Käfer", "cat"), [1, 0, 1])
    assert dataset.evaluation_labels.tolist() == [1, 1]
    assert any("was read as Windows-1252" in note for note in dataset.notes)
