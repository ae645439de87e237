"""Open files and list folders without following a link in any part of their paths.

What was checked by its path is what is opened: a link that somebody puts there meanwhile is an error. Paths are walked
part by part, each from the descriptor of the one before it. Pipes and devices are never opened.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

# Linux needs permission to pass through a folder for O_PATH, and others to list it for O_RDONLY.
_THROUGH = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LISTING = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READING = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC  # a pipe would block


def open_file(path: Path) -> BinaryIO:
    """Open a file for reading.

    Raises OSError if it is missing, no regular file, may not be read, or if a part of ``path`` is a link.
    """
    return os.fdopen(descriptor_of(path), "rb")


def descriptor_of(path: Path) -> int:
    """Return a descriptor of a file, to be closed by the caller. Raises OSError as :func:`open_file` does."""
    with _parent_of(path) as (parent, name):
        _check_regular(os.stat(name, dir_fd=parent, follow_symlinks=False), path)  # opening a device has effects
        descriptor = os.open(name, _READING, dir_fd=parent)
    try:
        _check_regular(os.fstat(descriptor), path)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def status_of(path: Path) -> os.stat_result:
    """Return the status of what lies at ``path``, of a link itself. Raises OSError if it cannot be reached."""
    with _parent_of(path) as (parent, name):
        return os.stat(name, dir_fd=parent, follow_symlinks=False)


def is_file(path: Path) -> bool:
    """Return whether there is a regular file; False for links, and for what cannot be reached."""
    return stat.S_ISREG(_mode_of(path))


def is_folder(path: Path) -> bool:
    """Return whether there is a folder; False for links, and for what cannot be reached."""
    return stat.S_ISDIR(_mode_of(path))


def is_link(path: Path) -> bool:
    """Return whether there is a symbolic link."""
    return stat.S_ISLNK(_mode_of(path))


def entries_of(folder: Path) -> list[Path]:
    """Return the paths of what a folder holds, in no order. Raises OSError if it cannot be listed."""
    with _parent_of(folder) as (parent, name):
        descriptor = os.open(name, _LISTING, dir_fd=parent)
    try:
        with os.scandir(descriptor) as found:
            return [folder / entry.name for entry in found]
    finally:
        os.close(descriptor)


def _mode_of(path: Path) -> int:
    try:
        return status_of(path).st_mode
    except (OSError, ValueError):  # ValueError for a null character
        return 0


def _check_regular(found: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(found.st_mode):
        is_link = stat.S_ISLNK(found.st_mode)
        why = "a link, and links are not followed" if is_link else "no regular file"
        raise OSError(errno.ELOOP if is_link else errno.EINVAL, why, str(path))


@contextmanager
def _parent_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield a descriptor of the folder that holds ``path``, and the name there; ``.`` for the root."""
    root, *parts = path.absolute().parts
    *folders, name = parts or ["."]
    descriptor = os.open(root, _THROUGH)
    try:
        for folder in folders:
            inner = os.open(folder, _THROUGH, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        yield descriptor, name
    finally:
        os.close(descriptor)
