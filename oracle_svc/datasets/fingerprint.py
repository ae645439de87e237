"""Tell whether files have changed since they were read, by what the file system records of them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from .file_access import entries_of, status_of

_SETTLED_S = 2.0  # file systems record times this coarsely, so a later change may leave the recorded time as it is


@dataclass(frozen=True)
class Fingerprint:
    """What the file system recorded of some files, and of folders with their files.

    Attributes:
        digest: Equal for two fingerprints if no file was changed between them, unless the newest change is recent.
        newest: Time of the newest change, in seconds since the epoch; 0.0 if nothing exists.
    """

    digest: bytes
    newest: float

    def is_settled(self, now: float) -> bool:
        """Return whether any change after ``now`` must show in a later fingerprint."""
        return self.newest < now - _SETTLED_S


def fingerprint(paths: Iterable[Path]) -> Fingerprint:
    """Return the fingerprint of files, and of folders down to the files of class folders. Paths may be missing.

    A file is recorded by its identity, size, and times of modification and of status change; the latter cannot be set
    to the past by programs that keep modification times.
    """
    hashed, newest = sha256(), 0.0
    for path in paths:
        for name, found in _entries(path):
            hashed.update(f"{name!r} {found.st_dev} {found.st_ino} {found.st_mode} {found.st_size}".encode())
            hashed.update(f" {found.st_mtime_ns} {found.st_ctime_ns}\n".encode())
            newest = max(newest, found.st_mtime, found.st_ctime)
        hashed.update(b"\0")
    return Fingerprint(hashed.digest(), newest)


def _entries(path: Path) -> Iterator[tuple[str, os.stat_result]]:
    try:
        found = status_of(path)
    except (OSError, ValueError):  # missing, not accessible, or no path at all: reading it says which
        return
    yield str(path), found
    if stat.S_ISDIR(found.st_mode):
        for inner, of_inner in _listed(path):
            yield inner.name, of_inner
            if stat.S_ISDIR(of_inner.st_mode):
                yield from ((entry.name, known) for entry, known in _listed(inner))


def _listed(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """List a folder by name, without what is deleted meanwhile; links are not followed."""
    try:
        entries = sorted(entries_of(folder))
    except OSError:
        return
    for entry in entries:
        with suppress(OSError):
            yield entry, status_of(entry)
