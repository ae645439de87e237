"""Keep folders of copied files on the local disk: the most recently used ones, up to a limit."""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from labelloop.artifacts.upload_manifest import folders_of
from labelloop.errors import LimitExceeded, Unready

_IN_USE_S = 3_600.0  # after its last use, a folder may still be read, and a draft be written
_RETRY_S = 30.0


class FolderCache:
    """Folders below ``folder``, up to ``bytes_max`` in all. All methods block on the disk.

    A folder appears under its name once it is complete.
    """

    def __init__(self, folder: Path, bytes_max: int) -> None:
        self.folder, self.bytes_max = folder, bytes_max

    def used(self, name: str) -> Path | None:
        """Note that the folder ``name`` is used, and return its path; None if there is none."""
        with self.failing():
            try:
                os.utime(self.folder / name)
            except FileNotFoundError:
                return None
            return self.folder / name

    def draft(self, name: str) -> Path:
        """Make an empty folder to be filled and passed to :meth:`keep`, or to :meth:`drop` if that fails."""
        with self.failing():
            draft = self.folder / f"{name}.{secrets.token_hex(4)}.draft"
            draft.mkdir(parents=True)
            return draft

    def keep(self, draft: Path, name: str) -> Path:
        """Give ``draft`` its name, unless another process was first, whose files are the same. Return the folder."""
        folder = self.folder / name
        with self.failing():
            with suppress(OSError):
                draft.rename(folder)
            if not folder.is_dir():
                draft.rename(folder)
            os.utime(folder)
        return folder

    def drop(self, draft: Path) -> None:
        """Remove ``draft``, unless it was kept."""
        shutil.rmtree(draft, ignore_errors=True)

    def make_room(self, bytes_more: int) -> None:
        """Remove the least recently used folders, except those that may be in use.

        Raises:
            LimitExceeded: If ``bytes_more`` can never fit.
            Unready: If there is no room now, or the disk fails.
        """
        if bytes_more > self.bytes_max:
            message = (
                f"the pool has {bytes_more:,} bytes, but this oracle keeps at most {self.bytes_max:,} of uploads and "
                "remote pools on its disk: ask the operator to raise LABELLOOP_UPLOADS_CACHE_GB"
            )
            raise LimitExceeded("POOL_TOO_LARGE", message, most=self.bytes_max)
        with self.failing():
            excess = self._without_unused(bytes_more)
        if excess > 0:
            message = (
                "other pools are in use, and this one does not fit beside them: wait, or ask the operator to raise "
                f"LABELLOOP_UPLOADS_CACHE_GB by {excess:,} bytes"
            )
            raise Unready("CACHE_FULL", message, retry_after_s=_RETRY_S)

    def _without_unused(self, bytes_more: int) -> int:
        """Remove unused folders, oldest first, and return how many bytes are still too many."""
        self.folder.mkdir(parents=True, exist_ok=True)
        found = sorted((path.stat().st_mtime, path, _size(path)) for path in self.folder.iterdir())
        excess = sum(size for _, _, size in found) + bytes_more - self.bytes_max
        for used_at, path, size in found:
            if excess <= 0:
                break
            if used_at < time.time() - _IN_USE_S:
                shutil.rmtree(path)
                excess -= size
        return excess

    @contextmanager
    def failing(self) -> Iterator[None]:
        """Raise Unready where the disk fails within the block."""
        try:
            yield
        except OSError as error:
            raise self.failed(error) from error

    def failed(self, error: OSError) -> Unready:
        """Return the error to raise where files in the folder cannot be read or written."""
        message = f"the cache in {self.folder} fails: {error}; mend that, or set LABELLOOP_CACHE_DIR to another"
        return Unready("CACHE_FAILS", message, retry_after_s=_RETRY_S, folder=self.folder)


def make_folders(draft: Path, names: Iterable[str]) -> None:
    """Make the folders below ``draft`` in which files ``names`` lie."""
    for folder in sorted({folder for name in names for folder in folders_of(name)}):
        (draft / folder).mkdir()


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
