"""Datasets in array files: loading, conversion, and the errors of invalid specs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labelloop.errors import InvalidInput, LabelloopError
from numpy.typing import ArrayLike, NDArray

from oracle_svc.datasets import Dataset, DatasetSource, load

from .test_idx import to_idx

POOL = np.arange(24, dtype=np.uint8).reshape(4, 2, 3)


class Folder:
    """Saves arrays in a folder and loads datasets of them."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def save(self, name: str, array: ArrayLike) -> str:
        np.save(self.path / name, array)
        return str(self.path / name)

    def load(self, **source: Any) -> Dataset:
        return load(DatasetSource(**source), data_dir=None, cache_dir=self.path / "cache")

    def refused(self, **source: Any) -> LabelloopError:
        with pytest.raises(LabelloopError) as caught:
            self.load(**source)
        error = caught.value
        assert all(value in error.message or repr(value) in error.message for value in error.values.values())
        return error


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_a_pool_is_loaded_with_labels_and_evaluation_set(folder: Folder) -> None:
    dataset = folder.load(
        name=folder.save("pool.npy", POOL),
        labels=folder.save("labels.npy", [2, 0, 1, 0]),
        evaluation=folder.save("evaluation.npy", POOL[:2]),
        evaluation_labels=folder.save("evaluation_labels.npy", np.array([1, 2], np.uint64)),
    )
    assert dataset.name == "pool.npy"
    assert dataset.description == "pool.npy: 4 labelled samples of 2x3 uint8, 3 classes, 2 evaluation samples"
    assert not dataset.stand_in
    np.testing.assert_array_equal(dataset.samples, POOL)
    assert dataset.labels is not None
    assert dataset.labels.dtype == np.int32
    assert dataset.labels.tolist() == [2, 0, 1, 0]
    assert dataset.classes == ("0", "1", "2")
    assert dataset.evaluation_samples is not None
    assert dataset.evaluation_samples.shape == (2, 2, 3)
    assert dataset.evaluation_labels is not None
    assert dataset.evaluation_labels.dtype == np.int32
    assert dataset.evaluation_labels.tolist() == [1, 2]


def test_an_unlabelled_pool_takes_its_classes_from_the_spec(folder: Folder) -> None:
    dataset = folder.load(name=folder.save("pool.npy", POOL), classes=("cat", "dog"))
    assert dataset.labels is None
    assert dataset.evaluation_samples is None
    assert dataset.evaluation_labels is None
    assert dataset.description == "pool.npy: 4 unlabelled samples of 2x3 uint8, 2 classes, no evaluation set"


def test_idx_files_serve_as_pool_and_labels(folder: Folder) -> None:
    (folder.path / "pool").write_bytes(to_idx(POOL))
    (folder.path / "labels").write_bytes(to_idx(np.array([0, 1, 1, 0], np.uint8)))
    dataset = folder.load(name=str(folder.path / "pool"), labels=str(folder.path / "labels"))
    np.testing.assert_array_equal(dataset.samples, POOL)
    assert dataset.labels is not None
    assert dataset.labels.tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize(
    ("raw", "dtype"),
    [
        (POOL, np.uint8),
        (POOL.astype(np.int64), np.uint8),
        (POOL.astype(">u2"), np.uint8),
        ((POOL - 5).astype(np.int8) & 0x7F, np.uint8),
        (POOL.astype(np.float32), np.float32),
        (POOL.astype(np.float64), np.float32),
        (POOL.astype(">f4"), np.float32),
        (POOL.astype(np.float16), np.float32),
        (np.asfortranarray(POOL), np.uint8),
    ],
)
def test_samples_become_uint8_or_float32(folder: Folder, raw: NDArray[Any], dtype: type) -> None:
    samples = folder.load(name=folder.save("pool.npy", raw), classes=("a", "b")).samples[:]
    assert samples.dtype == np.dtype(dtype)
    assert samples.dtype.isnative
    assert samples.flags.c_contiguous
    np.testing.assert_array_equal(samples, raw)


@pytest.mark.parametrize(
    ("raw", "reason", "message"),
    [
        ([[0, 1], [2, 256], [-1, 0]], "SAMPLE_VALUE", "row 1: 256 is not in 0 to 255"),
        ([[0, 1], [-1, 256]], "SAMPLE_VALUE", "row 1: -1 is not in 0 to 255"),
        ([[0.0], [1.0], [np.nan]], "SAMPLE_VALUE", "row 2: nan is not a finite float32"),
        ([[0.0], [-np.inf]], "SAMPLE_VALUE", "row 1: -inf is not a finite float32"),
        ([[1e300], [0.0]], "SAMPLE_VALUE", "row 0: 1e+300 is not a finite float32"),
        ([1.0, 2.0], "SAMPLES_SHAPE", "1 dimension"),
        (5, "SAMPLES_SHAPE", "0 dimension"),
        (np.zeros((0, 28, 28), np.uint8), "EMPTY_POOL", "holds no samples"),
        (np.zeros((4, 0)), "EMPTY_POOL", "holds no samples"),
        ([["a", "b"]], "SAMPLES_DTYPE", "holds <U1"),
        ([[True, False]], "SAMPLES_DTYPE", "holds bool"),
        ([[1j]], "SAMPLES_DTYPE", "holds complex128"),
    ],
)
def test_bad_samples_are_refused(folder: Folder, raw: ArrayLike, reason: str, message: str) -> None:
    error = folder.refused(name=folder.save("pool.npy", raw), classes=("a", "b"))
    assert isinstance(error, InvalidInput)
    assert (error.reason, error.field) == (reason, "name")
    assert message in error.message


@pytest.mark.parametrize("name", ["", "nmist", "/no/such/pool.npy", "nul\0byte", "x" * 5_000, os.devnull])
def test_the_error_for_an_unknown_name_lists_the_accepted_ones(folder: Folder, name: str) -> None:
    error = folder.refused(name=name)
    assert isinstance(error, InvalidInput)
    assert (error.reason, error.field) == ("UNKNOWN_DATASET", "name")
    assert all(word in error.message for word in ("'mnist'", ".npy", "IDX", "folder of images"))


@pytest.mark.parametrize("field", ["labels", "evaluation", "evaluation_labels", "classes"])
def test_mnist_takes_no_other_settings(folder: Folder, field: str) -> None:
    error = folder.refused(name="mnist", **{field: ("0", "1") if field == "classes" else "labels.npy"})
    assert (error.reason, error.field) == ("NOT_FOR_MNIST", field)
