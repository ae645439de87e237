"""Read a folder of images, laid out either flat or with one subfolder per class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from labelloop.errors import InvalidInput
from numpy.typing import NDArray

from .images import read_images

_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})


def read_folder(folder: Path, field: str) -> tuple[NDArray[np.uint8], NDArray[np.int64] | None, tuple[str, ...]]:
    """Read the images in ``folder`` [N, ...], their labels [N] and the class names, index = label.

    With class folders, samples are ordered by class and by file name within each; without them, labels are None and
    class names are empty. Raises InvalidInput for an empty folder or any other layout, and the errors of
    ``read_images``.
    """
    class_folders, images = [path for path in _visible(folder) if path.is_dir()], _images_in(folder)
    if class_folders and images:
        raise _stray(folder, images[0], "beside class folders", field)
    if not class_folders:
        return _images(images, folder, field), None, ()
    images_by_class = [_images_of_class(path, field) for path in class_folders]
    return (
        _images([image for images in images_by_class for image in images], folder, field),
        np.repeat(np.arange(len(class_folders)), [len(images) for images in images_by_class]),
        tuple(path.name for path in class_folders),
    )


def _images_of_class(folder: Path, field: str) -> list[Path]:
    for path in _visible(folder):
        if path.is_dir():  # most likely train/cat, train/dog: those classes would be lost
            raise _stray(folder.parent, path, "inside a class folder", field)
    return _images_in(folder)


def _images(paths: list[Path], folder: Path, field: str) -> NDArray[np.uint8]:
    if not paths:
        raise InvalidInput(
            "EMPTY_POOL",
            f"{folder} holds no images, nor do folders in it: name the folder that does",
            field=field,
            folder=folder,
        )
    return read_images(paths, field)


def _stray(folder: Path, path: Path, where: str, field: str) -> InvalidInput:
    return InvalidInput(
        "FOLDER_LAYOUT",
        f"{path} lies {where}: {folder} must hold either images, or one folder of images for each class",
        field=field,
        path=path,
        where=where,
        folder=folder,
    )


def _visible(folder: Path) -> list[Path]:
    """List ``folder`` by name, without the hidden files of desktops and editors (``.DS_Store``, ``._a.png``)."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _images_in(folder: Path) -> list[Path]:
    """List the image files directly in ``folder``, by name."""
    return [path for path in _visible(folder) if path.suffix.lower() in _SUFFIXES and path.is_file()]
