"""Datasets of image folders: layouts, colours, sizes and broken files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labelloop.errors import Corrupt, InvalidInput, LabelloopError
from PIL import Image

from oracle_svc.datasets import Dataset, DatasetSource, load


def put(path: Path, value: int = 0, *, mode: str = "L", size: tuple[int, int] = (4, 3), **options: Any) -> Path:
    """Save an image of one colour; ``size`` is (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    bands = len(Image.new(mode, (1, 1)).getbands())
    Image.new(mode, size, value if bands == 1 else (value,) * bands).save(path, **options)
    return path


def read(folder: Path, **source: Any) -> Dataset:
    return load(DatasetSource(str(folder), **source), data_dir=None, cache_dir=folder / ".cache")


def refused(folder: Path, **source: Any) -> LabelloopError:
    with pytest.raises(LabelloopError) as caught:
        read(folder, **source)
    assert all(value in caught.value.message for value in caught.value.values.values())
    return caught.value


def test_a_flat_folder_is_read_in_order_of_name_without_labels(tmp_path: Path) -> None:
    for name, value in (("b.PNG", 2), ("a.bmp", 1), ("c.tif", 3)):
        put(tmp_path / name, value)
    (tmp_path / "README.txt").write_text("not an image")
    (tmp_path / "._a.png").write_bytes(b"what macOS leaves beside a file")
    dataset = read(tmp_path, classes=("cat", "dog"))
    assert dataset.labels is None
    assert dataset.samples.shape == (3, 3, 4)
    assert dataset.samples.dtype == np.uint8
    assert dataset.samples[:, 0, 0].tolist() == [1, 2, 3]
    assert dataset.name == tmp_path.name


def test_class_folders_give_labels_and_class_names(tmp_path: Path) -> None:
    put(tmp_path / "dog" / "1.png", 10)
    put(tmp_path / "cat" / "2.jpg", 20)
    put(tmp_path / "cat" / "1.jpeg", 30)
    (tmp_path / ".hidden").mkdir()
    dataset = read(tmp_path)
    assert dataset.classes == ("cat", "dog")
    assert dataset.labels is not None
    assert dataset.labels.dtype == np.int32
    assert dataset.labels.tolist() == [0, 0, 1]
    assert dataset.samples[:, 0, 0].tolist() == [30, 20, 10]


def test_a_source_may_order_the_class_folders_differently(tmp_path: Path) -> None:
    put(tmp_path / "cat" / "1.png")
    put(tmp_path / "dog" / "1.png")
    dataset = read(tmp_path, classes=("dog", "cat"))
    assert dataset.classes == ("dog", "cat")
    assert dataset.labels is not None
    assert dataset.labels.tolist() == [1, 0]


def test_a_flat_folder_may_have_its_labels_in_a_file(tmp_path: Path) -> None:
    put(tmp_path / "images" / "1.png")
    put(tmp_path / "images" / "2.png")
    np.save(tmp_path / "labels.npy", [1, 0])
    dataset = read(tmp_path / "images", labels=str(tmp_path / "labels.npy"))
    assert dataset.labels is not None
    assert dataset.labels.tolist() == [1, 0]


def test_one_coloured_image_makes_the_pool_rgb(tmp_path: Path) -> None:
    put(tmp_path / "1.png", 7)
    put(tmp_path / "2.png", 9, mode="RGB")
    samples = read(tmp_path, classes=("a", "b")).samples[:]
    assert samples.shape == (2, 3, 4, 3)
    assert samples.dtype == np.uint8
    assert samples.flags.c_contiguous
    assert samples[:, 0, 0].tolist() == [[7, 7, 7], [9, 9, 9]]


@pytest.mark.parametrize(
    ("mode", "name", "value", "pixel"),
    [
        ("1", "a.png", 1, 255),
        ("LA", "a.png", 255, 255),
        ("RGBA", "a.png", 255, [255, 255, 255]),
        ("CMYK", "a.tiff", 0, [255, 255, 255]),
        ("L", "a.webp", 9, [9, 9, 9]),  # a format without greyscale
    ],
)
def test_modes_become_greyscale_or_rgb(
    tmp_path: Path, mode: str, name: str, value: int, pixel: int | list[int]
) -> None:
    put(tmp_path / name, value, mode=mode)
    assert read(tmp_path, classes=("a", "b")).samples[0, 0, 0].tolist() == pixel


def test_a_palette_with_transparency_is_read_without_a_warning(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putdata([0, 1])
    image.save(tmp_path / "a.png", transparency=bytes([0, 128]))
    assert read(tmp_path, classes=("a", "b")).samples[0, 0].tolist() == [[255, 255, 255], [147, 152, 157]]


def test_a_photograph_is_rotated_by_its_exif_orientation(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn a quarter clockwise
    put(tmp_path / "a.jpg", size=(4, 3), exif=exif)
    put(tmp_path / "b.jpg", size=(3, 4))
    assert read(tmp_path, classes=("a", "b")).samples.shape == (2, 4, 3)


@pytest.mark.parametrize("change", [lambda data: b"", lambda data: b"no image", lambda data: data[:-30]])
def test_the_error_names_a_broken_image(tmp_path: Path, change: Any) -> None:
    put(tmp_path / "a.png")
    broken = put(tmp_path / "b.png", size=(40, 30))
    broken.write_bytes(change(broken.read_bytes()))
    error = refused(tmp_path, classes=("a", "b"))
    assert isinstance(error, Corrupt)
    assert (error.reason, error.field) == ("IMAGE_DAMAGED", "name")
    assert error.values["path"] == broken.name


@pytest.mark.parametrize(("mode", "name"), [("I;16", "a.png"), ("I", "a.tiff"), ("F", "a.tiff")])
def test_deep_images_are_refused_rather_than_clipped(tmp_path: Path, mode: str, name: str) -> None:
    put(tmp_path / name, 1_000, mode=mode)
    error = refused(tmp_path, classes=("a", "b"))
    assert isinstance(error, InvalidInput)
    assert error.reason == "IMAGE_DEPTH"


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path, classes=("a", "b")).reason == "EMPTY_POOL"
    (tmp_path / "cat").mkdir()
    (tmp_path / "dog").mkdir()
    assert refused(tmp_path).reason == "EMPTY_POOL"


@pytest.mark.parametrize("stray", ["beside.png", "train/more/1.png"])
def test_a_layout_that_would_lose_images_is_refused(tmp_path: Path, stray: str) -> None:
    put(tmp_path / "train" / "1.png")
    put(tmp_path / "test" / "1.png")
    put(tmp_path / stray)
    error = refused(tmp_path)
    assert isinstance(error, InvalidInput)
    assert error.reason == "FOLDER_LAYOUT"


def test_class_folders_with_a_label_file_are_refused(tmp_path: Path) -> None:
    put(tmp_path / "cat" / "1.png")
    put(tmp_path / "dog" / "1.png")
    error = refused(tmp_path, labels="labels.npy")
    assert (error.reason, error.field) == ("LABELS_TWICE", "labels")


def test_an_evaluation_folder_is_labelled_by_its_class_folders(tmp_path: Path) -> None:
    for path in ("pool/cat/1.png", "pool/dog/1.png", "evaluation/dog/1.png", "evaluation/dog/2.png"):
        put(tmp_path / path)
    (tmp_path / "evaluation" / "cat").mkdir()
    dataset = read(tmp_path / "pool", classes=("dog", "cat"), evaluation=str(tmp_path / "evaluation"))
    assert dataset.evaluation_labels is not None
    assert dataset.evaluation_labels.dtype == np.int32
    assert dataset.evaluation_labels.tolist() == [0, 0]


def test_evaluation_folders_must_have_the_pools_class_names(tmp_path: Path) -> None:
    for path in ("pool/cat/1.png", "pool/dog/1.png", "evaluation/cat/1.png", "evaluation/fox/1.png"):
        put(tmp_path / path)
    error = refused(tmp_path / "pool", evaluation=str(tmp_path / "evaluation"))
    assert (error.reason, error.field) == ("CLASS_MISMATCH", "evaluation")
    assert "'dog'" in error.message
