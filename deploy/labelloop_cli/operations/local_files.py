"""List the files of a pool on this machine, and describe them for an upload."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from labelloop.artifacts.upload_manifest import FILES_MAX, PART_BYTES, UploadedFile, check_names
from labelloop.errors import InvalidInput, LimitExceeded, NotFound


class LocalFile(NamedTuple):
    """A file to upload.

    Attributes:
        path: Where it is.
        name: What the upload calls it.
        size: Its bytes.
    """

    path: Path
    name: str
    size: int


class LocalPart(NamedTuple):
    """A part of a file to upload."""

    path: Path
    offset: int
    size: int
    sha256: str


def local_files(path: Path) -> tuple[list[LocalFile], int]:
    """Return the file ``path``, or the files below the folder ``path``, and how many hidden ones are left out.

    Names begin with the name of the file or folder itself.

    Raises:
        NotFound: If there is no such file or folder.
        InvalidInput: If there are no files, or links, pipes or names that cannot be uploaded among them.
        LimitExceeded: If there are too many files.
    """
    root = here(path)
    if root.is_file():
        return _checked([LocalFile(root, root.name, root.stat().st_size)]), 0
    files, hidden = [], 0
    for found in _below(root):
        if any(part.startswith(".") for part in found.relative_to(root).parts):
            hidden += 1
            continue
        if found.is_symlink() or not found.is_file():
            message = (
                f"{str(found)!r} is no plain file: links, pipes and devices cannot be uploaded; replace or move it"
            )
            raise InvalidInput("NOT_A_FILE", message, field="path", path=found)
        files.append(LocalFile(found, f"{root.name}/{found.relative_to(root).as_posix()}", found.stat().st_size))
        if len(files) > FILES_MAX:
            message = f"{str(path)!r} has more than {FILES_MAX:,} files: pack them into arrays or tables"
            raise LimitExceeded("TOO_MANY_FILES", message, field="path", most=FILES_MAX)
    if not files:
        raise InvalidInput("NO_FILES", f"the folder {str(path)!r} has no files", field="path", path=path)
    return _checked(files), hidden


def here(path: Path) -> Path:
    """Return the absolute path of a file or folder, without links; raise NotFound if there is none."""
    root = found_here(path)
    if root is None:
        raise NotFound("NO_FILE", f"there is no file or folder {str(path)!r}", field="path", path=path)
    return root


def found_here(path: Path) -> Path | None:
    """Return the absolute path of a file or folder, without links; None if there is none."""
    try:
        return path.resolve(strict=True)
    except (OSError, ValueError, RuntimeError):  # missing, too long, a null character, links in a circle
        return None


def _below(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root, onerror=_raise):
        yield from (Path(folder, name) for name in names)
        yield from (Path(folder, name) for name in folders if Path(folder, name).is_symlink())


def _raise(error: OSError) -> None:
    message = f"a folder cannot be read: {error}"
    raise InvalidInput("UNREADABLE", message, field="path") from error


def _checked(files: list[LocalFile]) -> list[LocalFile]:
    check_names([file.name for file in files])
    return files


def described(file: LocalFile, advance: Callable[[int], None]) -> tuple[UploadedFile, Sequence[LocalPart]]:
    """Read a file and return what a manifest says of it, and its parts. ``advance`` is called with the bytes read.

    Raises InvalidInput if it cannot be read, or is not of the size that it had.
    """
    whole, parts, size = sha256(), [], 0
    try:
        with file.path.open("rb") as opened:
            while data := opened.read(PART_BYTES):
                whole.update(data)
                parts.append(LocalPart(file.path, size, len(data), sha256(data).hexdigest()))
                size += len(data)
                advance(len(data))
    except OSError as error:
        message = f"{str(file.path)!r} cannot be read: {error}"
        raise InvalidInput("UNREADABLE", message, field="path", path=file.path) from error
    if size != file.size:
        raise changed(file.path)
    digests = tuple(part.sha256 for part in parts) if len(parts) > 1 else ()
    return UploadedFile(name=file.name, size=size, sha256=whole.hexdigest(), parts=digests), parts


def read_part(part: LocalPart) -> bytes:
    """Return the bytes of a part. Raises InvalidInput if they are no longer those that were described."""
    try:
        with part.path.open("rb") as opened:
            opened.seek(part.offset)
            data = opened.read(part.size)
    except OSError as error:
        raise changed(part.path) from error
    if sha256(data).hexdigest() != part.sha256:
        raise changed(part.path)
    return data


def changed(path: Path) -> InvalidInput:
    message = f"{str(path)!r} changed while it was uploaded: try again once it is complete"
    return InvalidInput("FILE_CHANGED", message, field="path", path=path)
