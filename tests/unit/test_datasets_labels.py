"""Labels, class names and evaluation sets in array files: every way in which they can disagree with a pool."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labelloop.errors import InvalidInput, NotFound
from numpy.typing import ArrayLike, NDArray

from .test_datasets_files import POOL, Folder


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.mark.parametrize(
    ("labels", "reason", "message"),
    [
        ([0, 1, 1], "LABELS_COUNT", "3 labels for 4 samples"),
        (["a", "b", "a"], "LABELS_COUNT", "3 labels for 4 samples"),
        ([["a"], ["b"], ["a"], ["b"]], "LABELS_SHAPE", "shape (4, 1)"),
        ([[0], [1], [1], [0]], "LABELS_SHAPE", "shape (4, 1)"),
        ([0.0, 1.0, 0.5, 0.0], "LABELS_SHAPE", "row 2: the label 0.5"),
        ([0.0, 1.0, np.inf, np.nan], "LABELS_SHAPE", "row 2: the label inf"),
        ([0, 1, -1, -2], "LABEL_RANGE", "row 3: label -2"),
        ([0, 10_000, 1, 0], "LABEL_RANGE", "row 1: label 10000"),
        (np.array([0, 1, 2**64 - 1, 0], np.uint64), "LABEL_RANGE", "row 2: label 18446744073709551615"),
    ],
)
def test_bad_labels_are_refused(folder: Folder, labels: ArrayLike, reason: str, message: str) -> None:
    error = folder.refused(name=folder.save("pool.npy", POOL), labels=folder.save("labels.npy", labels))
    assert isinstance(error, InvalidInput)
    assert (error.reason, error.field) == (reason, "labels")
    assert message in error.message


def test_labels_may_be_names_of_classes(folder: Folder) -> None:
    pool, named = folder.save("pool.npy", POOL), folder.save("labels.npy", ["dog", " cafe\u0301", "dog", "cat"])
    counted = folder.load(name=pool, labels=named)
    assert counted.classes == ("caf\u00e9", "cat", "dog")
    assert counted.labels is not None
    assert counted.labels.tolist() == [2, 0, 2, 1]
    chosen = folder.load(name=pool, labels=named, classes=("dog", "caf\u00e9", "cat", "cow"))
    assert chosen.labels is not None
    assert chosen.labels.tolist() == [0, 1, 0, 2]
    error = folder.refused(name=pool, labels=named, classes=("dog", "cat"))
    assert (error.reason, error.field) == ("CLASS_MISMATCH", "labels")


def test_a_label_beyond_the_named_classes_is_refused(folder: Folder) -> None:
    error = folder.refused(
        name=folder.save("pool.npy", POOL), labels=folder.save("labels.npy", [0, 1, 2, 0]), classes=("cat", "dog")
    )
    assert error.message.endswith(
        "row 2: label 2 is not a class, those are 0 to 1: correct the label, name every class, or write -1 where a "
        "label is unknown"
    )


@pytest.mark.parametrize(
    ("classes", "reason"),
    [
        ((), "TOO_FEW_CLASSES"),
        (("cat",), "TOO_FEW_CLASSES"),
        (("cat", "dog", "cat"), "CLASS_NAMES"),
        (("cat", ""), "CLASS_NAMES"),
    ],
)
def test_an_unlabelled_pool_needs_two_classes_of_different_names(
    folder: Folder, classes: tuple[str, ...], reason: str
) -> None:
    error = folder.refused(name=folder.save("pool.npy", POOL), classes=classes)
    assert (error.reason, error.field) == (reason, "classes")


def test_labels_of_one_class_are_refused(folder: Folder) -> None:
    error = folder.refused(name=folder.save("pool.npy", POOL), labels=folder.save("labels.npy", [0, 0, 0, 0]))
    assert error.reason == "TOO_FEW_CLASSES"


@pytest.mark.parametrize("evaluation", [POOL[:, :1], POOL.astype(np.float32), POOL.reshape(4, 6)])
def test_evaluation_of_another_shape_or_dtype_is_refused(folder: Folder, evaluation: NDArray[Any]) -> None:
    error = folder.refused(
        name=folder.save("pool.npy", POOL),
        classes=("a", "b"),
        evaluation=folder.save("evaluation.npy", evaluation),
        evaluation_labels=folder.save("evaluation_labels.npy", [0, 1, 0, 1]),
    )
    assert (error.reason, error.field) == ("EVALUATION_KIND", "evaluation")
    assert "2x3 uint8" in error.message


def test_evaluation_needs_labels_and_labels_need_evaluation(folder: Folder) -> None:
    pool, labels = folder.save("pool.npy", POOL), folder.save("labels.npy", [0, 1, 0, 1])
    error = folder.refused(name=pool, labels=labels, evaluation=pool)
    assert (error.reason, error.field) == ("EVALUATION_LABELS_MISSING", "evaluation_labels")
    error = folder.refused(name=pool, labels=labels, evaluation_labels=labels)
    assert (error.reason, error.field) == ("EVALUATION_MISSING", "evaluation")


def test_an_evaluation_label_that_is_no_class_of_the_pool_is_refused(folder: Folder) -> None:
    pool = folder.save("pool.npy", POOL)
    error = folder.refused(
        name=pool,
        labels=folder.save("labels.npy", [0, 1, 0, 1]),
        evaluation=pool,
        evaluation_labels=folder.save("evaluation_labels.npy", [0, 1, 0, 2]),
    )
    assert (error.reason, error.field) == ("LABEL_RANGE", "evaluation_labels")
    assert "row 3: label 2" in error.message


@pytest.mark.parametrize("field", ["labels", "evaluation", "evaluation_labels"])
def test_missing_file_is_named_in_the_error(folder: Folder, field: str) -> None:
    pool, labels = folder.save("pool.npy", POOL), folder.save("labels.npy", [0, 1, 0, 1])
    paths = {"labels": labels, "evaluation": pool, "evaluation_labels": labels, field: "gone.npy"}
    error = folder.refused(name=pool, **paths)
    assert isinstance(error, NotFound)
    assert (error.reason, error.field) == ("NO_SUCH_FILE", field)
    assert "gone.npy" in error.message


def test_a_folder_in_place_of_labels_is_refused(folder: Folder) -> None:
    (folder.path / "labels.txt").write_text("0 1 0 1")
    error = folder.refused(name=folder.save("pool.npy", POOL), labels=str(folder.path))
    assert isinstance(error, InvalidInput)
    assert error.reason == "LABELS_FOLDER"
    assert str(folder.path) in error.message
