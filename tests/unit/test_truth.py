"""Where the true classes of a pool are found, and how files of them are read."""

from __future__ import annotations

import asyncio
import gzip
import struct
import tracemalloc
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from labelloop.errors import InvalidInput, LimitExceeded, NotFound
from labelloop.events.v1.events_pb2 import DatasetSource, PoolPublished, RunSpec
from labelloop.trainer.v1.trainer_pb2 import LabelRecord, RunStatus
from labelloop_cli.reporting import truth
from labelloop_cli.reporting.truth import own_labels
from labelloop_cli.sample_names import SampleNames

from tests.finding import FakeFinder

CLASSES = [3, 1, 4, 1]
IDX = struct.pack(">BBBBI", 0, 0, 8, 1, len(CLASSES)) + bytes(CLASSES)
PACKED = gzip.compress(IDX, mtime=0)  # else the time of day would be in it, and in a test's id


NAMES = [str(number) for number in range(5)]


def read_truth(path: Path) -> dict[int, int]:
    return asyncio.run(truth.read_truth(path, NAMES, SampleNames(FakeFinder(["a", "b", "c"]), "r")))


def truth_of(run: RunStatus, labels: Iterable[LabelRecord], given: Path | None) -> dict[int, int] | None:
    return asyncio.run(truth.truth_of(run, labels, given, SampleNames(FakeFinder(count=3), "r")))


def run_on(name: str, labels: Path | str = "", *, stand_in: bool = False) -> RunStatus:
    spec = RunSpec(dataset=DatasetSource(name=name, labels=str(labels)))
    return RunStatus(spec=spec, pool=PoolPublished(sample_count=3, stand_in=stand_in))


def npy(folder: Path, classes: object) -> Path:
    path = folder / "labels.npy"
    np.save(path, np.array(classes))
    return path


def test_all_file_formats_give_the_same_classes(tmp_path: Path) -> None:
    idx, packed, table = tmp_path / "labels-idx1-ubyte", tmp_path / "labels.gz", tmp_path / "labels.csv"
    idx.write_bytes(IDX)
    packed.write_bytes(PACKED)
    table.write_text("id,class\n" + "".join(f"{id_},{label}\n" for id_, label in enumerate(CLASSES)))
    for path in (npy(tmp_path, CLASSES), idx, packed, table):
        assert read_truth(path) == dict(enumerate(CLASSES))


def test_a_csv_file_from_excel_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_bytes(b"\xef\xbb\xbfid,class\r\n7,3\r\n")
    assert read_truth(table) == {7: 3}


@pytest.mark.parametrize(
    "data", [b"id,class\n1,\x81\n", b"class,id\n3\n", b"id\n1\n", b"id,class\n" + b"9" * 200_000 + b",1\n"]
)
def test_an_error_names_the_csv_file_that_cannot_be_read(tmp_path: Path, data: bytes) -> None:
    table = tmp_path / "labels.csv"
    table.write_bytes(data)
    with pytest.raises(InvalidInput, match=r"labels\.csv"):
        read_truth(table)


def test_names_of_samples_and_classes_are_understood(tmp_path: Path) -> None:
    table = tmp_path / "labels.TSV"
    table.write_text("name\tclass_name\nb\t4\n")
    assert read_truth(table) == {1: 4}


def test_a_folder_named_like_a_csv_file_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "labels.csv"
    folder.mkdir()
    with pytest.raises(InvalidInput, match=r"labels\.csv"):
        read_truth(folder)


@pytest.mark.parametrize(
    "data",
    [b"", b"\0\0", b"no labels", PACKED[:-9], b"\x1f\x8b", b"\0\0\x08\x03" + bytes(12), b"\x93NUMPY"],
)
def test_an_error_names_the_file_that_holds_no_labels(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "odd"
    path.write_bytes(data)
    with pytest.raises(InvalidInput, match="odd holds no labels"):
        read_truth(path)


@pytest.mark.parametrize("classes", [[0.5, 1.0], [[1, 2]]])
def test_an_array_of_another_type_or_shape_is_refused(tmp_path: Path, classes: object) -> None:
    with pytest.raises(InvalidInput, match="holds no labels"):
        read_truth(npy(tmp_path, classes))


def test_an_error_names_the_missing_file(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="nowhere"):
        read_truth(tmp_path / "nowhere.npy")


def test_the_datasets_own_labels_are_found_without_being_named(tmp_path: Path) -> None:
    path = npy(tmp_path, CLASSES)
    assert truth_of(run_on("pool.npy", path), [], None) == {0: 3, 1: 1, 2: 4}  # the pool has three samples
    assert truth_of(run_on("pool.npy", tmp_path / "elsewhere.npy"), [], None) is None
    assert truth_of(run_on("pool.npy"), [], None) is None


def test_labels_of_all_samples_are_not_those_of_a_drawn_pool(tmp_path: Path) -> None:
    run = run_on("pool.npy", npy(tmp_path, CLASSES))
    run.spec.dataset.sample_limit = 3
    assert own_labels(run) is not None
    run.spec.dataset.limit_seed = 1
    assert own_labels(run) is None


def test_mnists_labels_are_found_unless_a_stand_in_was_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABELLOOP_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert own_labels(run_on("mnist")) is None
    path = tmp_path / "mnist" / "train-labels-idx1-ubyte.gz"
    path.parent.mkdir()
    path.write_bytes(PACKED)
    assert own_labels(run_on("mnist")) == path
    assert own_labels(run_on("mnist", stand_in=True)) is None


def test_a_file_that_contradicts_labels_from_the_dataset_is_not_the_truth(tmp_path: Path) -> None:
    path = npy(tmp_path, CLASSES)
    told = [LabelRecord(sample_id=0, label=2, source="dataset:pool")]
    with pytest.raises(InvalidInput, match="differs"):
        truth_of(run_on("pool.npy"), told, path)
    assert truth_of(run_on("pool.npy", path), told, None) is None
    by_people = [LabelRecord(sample_id=0, label=2, source="queue")]
    assert truth_of(run_on("pool.npy"), by_people, path) == {0: 3, 1: 1, 2: 4}


def test_a_small_file_that_unpacks_to_a_large_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(truth, "_BYTES_MAX", 1_000_000)
    path = tmp_path / "labels.gz"
    path.write_bytes(gzip.compress(bytes(100_000_000)))
    tracemalloc.start()
    try:
        with pytest.raises(LimitExceeded, match="1,000,000 bytes"):
            read_truth(path)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("shape", ["(1000000000000,)", "(-1,)", "(1e3,)", "((((", "'x'"])
def test_a_header_that_claims_nonsense_is_a_message(tmp_path: Path, shape: str) -> None:
    header = f"{{'descr': '<i8', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    path = tmp_path / "labels.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
    with pytest.raises(InvalidInput, match="holds no labels"):
        read_truth(path)
