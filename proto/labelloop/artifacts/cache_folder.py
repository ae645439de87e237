"""Cache files that are made once and mapped into memory: one copy for all processes of a machine."""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from labelloop.artifacts.mapped_files import Bytes, map_file
from labelloop.errors import Unready

_LEFT_BEHIND_S = 3_600.0  # without a write for so long, a draft is abandoned


class CacheFolder:
    """The most recently used files, up to ``bytes_max`` in all. All methods block on the disk."""

    def __init__(self, folder: Path, bytes_max: int) -> None:
        self._folder, self.bytes_max = folder, bytes_max

    def holds(self, name: str) -> bool:
        """Return whether there is a file of that name, whole or not."""
        return (self._folder / name).exists()

    def mapped(self, name: str, whole: Callable[[Bytes], bool]) -> Bytes | None:
        """Map the bytes ``[size]`` of a file. None if it is missing, or if it is not ``whole``."""
        path = self._folder / name
        try:
            found = map_file(path)
        except (OSError, ValueError):  # absent, unreadable or empty
            return None
        if not whole(found):
            return None
        os.utime(path)
        return found

    def has(self, name: str) -> bool:
        """Return whether there is such a file."""
        return (self._folder / name).is_file()

    def made(self, name: str, size: int, whole: Callable[[Bytes], bool], write: Callable[[Path], None]) -> Bytes:
        """Map a file, or make it as :meth:`keep` does if it is missing or not ``whole``.

        One process makes it, and the others wait for that.
        """
        found = self.mapped(name, whole)
        if found is not None:
            return found
        with self._failing(), _locked(self._folder / f"{name}.lock"):
            found = self.mapped(name, whole)
            return self.keep(name, size, write) if found is None else found

    def keep(self, name: str, size: int, write: Callable[[Path], None]) -> Bytes:
        """Make a file of ``size`` bytes by ``write``, and map it. Unready if the folder cannot hold it."""
        with self._failing(), self._draft(name, size) as draft:
            write(draft)
            draft.replace(self._folder / name)  # atomic: other processes see all of it or nothing
            return map_file(self._folder / name)

    @contextmanager
    def _draft(self, name: str, size: int) -> Iterator[Path]:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._make_room(size)
        draft = self._folder / f"{name}.{secrets.token_hex(4)}.draft"
        try:
            yield draft
        finally:
            draft.unlink(missing_ok=True)

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            message = (
                f"the cache in {self._folder} fails: {error}; mend that, or set LABELLOOP_CACHE_DIR to another folder"
            )
            raise Unready("CACHE_FAILS", message, retry_after_s=1, folder=self._folder) from error

    def _make_room(self, bytes_more: int) -> None:
        """Remove the least recently used files. Processes that have them mapped keep them until they unmap them."""
        files = []
        for path in self._folder.iterdir():
            with suppress(FileNotFoundError):  # another process has removed its draft
                files.append((path.stat(), path))
        excess = sum(stat.st_size for stat, _ in files) + bytes_more - self.bytes_max
        for stat, path in sorted(files, key=lambda file: file[0].st_mtime):
            if excess <= 0:
                break
            if not _is_being_made(path, stat):
                path.unlink(missing_ok=True)
                excess -= stat.st_size


def _is_being_made(path: Path, stat: os.stat_result) -> bool:
    """Check whether another process may still write to the file."""
    return path.suffix in (".draft", ".lock") and time.time() - stat.st_mtime < _LEFT_BEHIND_S


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Exclude other processes and threads. If the holder dies, the lock is released."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with path.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not os.fstat(file.fileno()).st_nlink:  # removed by the previous holder
                continue
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return
