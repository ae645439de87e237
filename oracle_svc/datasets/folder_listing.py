"""List the files of a folder, laid out either flat or with one subfolder per class."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from labelloop.errors import InvalidInput

from .file_access import entries_of, is_folder, is_link
from .file_names import is_of_desktop, shown
from .picture_formats import PICTURE_SUFFIXES


@dataclass(frozen=True)
class FolderListing:
    """The files of a folder, and links, pipes and devices, but not the files of desktops.

    Attributes:
        files: Those that may be samples, by name; with class folders by class, then by name.
        file_classes: For each file the index of its class; None without class folders.
        classes: Names of the class folders, by name; empty without them.
        beside: With class folders, the files that lie beside them.
    """

    files: list[Path]
    file_classes: list[int] | None
    classes: tuple[str, ...]
    beside: list[Path]


def list_folder(folder: Path, field: str) -> FolderListing:
    """List ``folder``. Raises InvalidInput for folders in class folders, and for links that may lead to folders."""
    entries = _entries(folder, field)
    folders = [path for path in entries if is_folder(path)]
    files = sorted(set(entries) - set(folders))
    if not folders:
        return FolderListing(files, None, (), [])
    by_class = [_files_of_class(path, field) for path in folders]
    return FolderListing(
        files=[path for paths in by_class for path in paths],
        file_classes=[index for index, paths in enumerate(by_class) for _ in paths],
        classes=tuple(path.name for path in folders),
        beside=files,
    )


def stray(folder: Path, path: Path, where: str, field: str) -> InvalidInput:
    """Return the error for ``path``, which neither of the two layouts has room for."""
    return InvalidInput(
        "FOLDER_LAYOUT",
        f"{shown(str(path))} lies {where}: {folder} must hold either images, or one folder of images for each class",
        field=field,
        path=shown(str(path)),
        where=where,
        folder=folder,
    )


def _files_of_class(folder: Path, field: str) -> list[Path]:
    entries = _entries(folder, field)
    for path in entries:
        if is_folder(path):  # most likely train/cat, train/dog: those classes would be lost
            raise stray(folder.parent, path, "inside a class folder", field)
    return entries


def _entries(folder: Path, field: str) -> list[Path]:
    entries = sorted(path for path in entries_of(folder) if not is_of_desktop(path.name))
    for path in entries:
        if path.suffix.lower() not in PICTURE_SUFFIXES and is_link(path):  # a class would be lost
            message = f"{shown(str(path))} is a link, and links are not followed: put there what it leads to"
            raise InvalidInput("FOLDER_LINK", message, field=field, path=shown(str(path)))
    return entries
