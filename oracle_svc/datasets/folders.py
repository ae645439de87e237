"""Read a folder of pictures, laid out either flat or with one subfolder per class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from labelloop.errors import InvalidInput
from numpy.typing import NDArray

from .dataset import Original
from .file_names import check_unique, is_text, sample_name
from .folder_listing import FolderListing, list_folder, stray
from .images import PictureFile, Pictures, read_pictures
from .picture_file import PictureFault, PictureHeader, read_header
from .picture_notes import bad_pictures, left_out_note, picture_notes, skipped_note
from .picture_settings import PictureSettings
from .threads import in_threads


class PictureFolder(NamedTuple):
    """The samples of a folder of pictures; fields as those of ``Split``."""

    samples: NDArray[np.uint8]
    labels: NDArray[np.int64] | None
    classes: tuple[str, ...]
    names: Sequence[str]
    originals: Sequence[Original]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Scan:
    """What the files of a folder are, each by its path.

    Attributes:
        pictures: Files whose headers can be read.
        faults: Files that are or should be pictures, but cannot be read.
        left_out: Files that are no pictures.
    """

    pictures: list[PictureFile]
    faults: dict[Path, PictureFault]
    left_out: list[Path]


def read_folder(folder: Path, settings: PictureSettings, field: str, cache_dir: Path) -> PictureFolder:
    """Read the pictures in ``folder``; ``cache_dir`` is where those that take much room are decoded.

    With class folders, samples are ordered by class and by file name within each; without them, labels are None and
    class names are empty. Whether a file is a picture is decided by its content; what is not is left out with a note.
    Originals are given if any picture had to be fitted to the samples' size.

    Raises:
        InvalidInput: The folder is empty or laid out in another way, two names are equal in NFC, or pictures have more
            than 8 bits a channel.
        Corrupt: Pictures cannot be read, and ``settings`` do not say to leave them out.
        LimitExceeded: The samples take more room than there is in ``cache_dir``, or than 1 TiB.
    """
    listing = list_folder(folder, field)
    _refuse_beside(folder, listing, field)
    scan = _scan(listing.files)
    left_out = sorted(sample_name(path, folder) for path in (*scan.left_out, *listing.beside))
    if not scan.pictures and not scan.faults:
        raise _empty(folder, left_out, field)
    paths = [file.path for file in scan.pictures]
    check_unique([sample_name(path, folder) for path in paths], paths, field)
    pictures = read_pictures(scan.pictures, settings, str(folder), cache_dir) if paths else None
    faults = scan.faults | ({paths[row]: fault for row, fault in pictures.faults.items()} if pictures else {})
    named = {sample_name(path, folder): faults[path] for path in listing.files if path in faults}
    if pictures is None or not pictures.rows or (faults and not settings.skip_bad):
        raise bad_pictures(named, str(folder), field)
    read = [scan.pictures[row] for row in pictures.rows]
    notes = [*_notes(read, pictures, settings), *([skipped_note(named)] if named else [])]
    return PictureFolder(
        samples=pictures.samples,
        labels=_labels(listing, [file.path for file in read]),
        classes=listing.classes,
        names=[sample_name(file.path, folder) for file in read],
        originals=_originals(read, pictures),
        notes=(*notes, *([left_out_note(left_out)] if left_out else [])),
    )


def _refuse_beside(folder: Path, listing: FolderListing, field: str) -> None:
    for path, found in zip(listing.beside, in_threads(_header, listing.beside), strict=True):
        if found is not None:
            raise stray(folder, path, "beside class folders", field)


def _empty(folder: Path, left_out: list[str], field: str) -> InvalidInput:
    seen = f" ({left_out_note(left_out)})" if left_out else ""
    message = f"{folder} holds no images, nor do folders in it{seen}: name the folder that does"
    return InvalidInput("EMPTY_POOL", message, field=field, folder=folder)


def _scan(paths: list[Path]) -> _Scan:
    found = list(zip(paths, in_threads(_header, paths), strict=True))
    return _Scan(
        pictures=[PictureFile(path, header) for path, header in found if isinstance(header, PictureHeader)],
        faults={path: fault for path, fault in found if isinstance(fault, PictureFault)},
        left_out=[path for path, nothing in found if nothing is None],
    )


def _header(path: Path) -> PictureHeader | PictureFault | None:
    try:
        header = read_header(path)
    except PictureFault as fault:
        return fault.bare()
    if header is not None and not is_text(path.name):
        return PictureFault("its name is not UTF-8: rename it")
    return header


def _notes(read: list[PictureFile], pictures: Pictures, settings: PictureSettings) -> Iterator[str]:
    return picture_notes([file.header for file in read], pictures.plan, pictures.changed, settings)


def _labels(listing: FolderListing, paths: list[Path]) -> NDArray[np.int64] | None:
    if listing.file_classes is None:
        return None
    class_of = dict(zip(listing.files, listing.file_classes, strict=True))
    return np.array([class_of[path] for path in paths], np.int64)


def _originals(read: list[PictureFile], pictures: Pictures) -> Sequence[Original]:
    if not pictures.changed:
        return ()
    return [Original(file.path, digest) for file, digest in zip(read, pictures.digests, strict=True)]
