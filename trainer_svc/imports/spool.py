"""Keep what an import sends on the disk until all of it is checked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, NamedTuple

from labelloop.errors import LimitExceeded, Unready

_RETRY_S = 10.0


class Place(NamedTuple):
    """Where something lies in the file."""

    offset: int
    size: int


class Spool:
    """A file without a name, which is gone once it is closed, or its process has died.

    Args:
        folder: The folder on whose disk it lies; None for the system's folder of temporary files.
        bytes_max: How many bytes it may hold.
    """

    def __init__(self, folder: Path | None, bytes_max: int) -> None:
        self._folder, self._bytes_max = folder, bytes_max
        self.size = 0
        with self._failing():
            self._file: IO[bytes] = TemporaryFile(dir=folder)  # noqa: SIM115  # closed by close()

    def close(self) -> None:
        self._file.close()

    def add(self, data: bytes) -> Place:
        """Append ``data``.

        Raises:
            LimitExceeded: If the file would become too large.
            Unready: If the disk fails.
        """
        if self.size + len(data) > self._bytes_max:
            message = (
                f"the import has more than {self._bytes_max:,} bytes: ask the operator to raise LABELLOOP_IMPORT_GB, "
                "and the disk that LABELLOOP_IMPORT_DIR is on"
            )
            raise LimitExceeded("IMPORT_TOO_LARGE", message, field="part", most=self._bytes_max)
        place = Place(self.size, len(data))
        with self._failing():
            self._file.seek(self.size)
            self._file.write(data)
        self.size += len(data)
        return place

    def read(self, place: Place) -> bytes:
        """Return what lies at ``place``. Raises Unready if the disk fails."""
        with self._failing():
            self._file.seek(place.offset)
            data = self._file.read(place.size)
        if len(data) < place.size:
            raise self._failed("it is shorter than what was written")
        return data

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._failed(str(error)) from error

    def _failed(self, why: str) -> Unready:
        where = self._folder or "the folder of temporary files"
        message = f"the file that keeps an import in {where} fails: {why}; mend that, or set LABELLOOP_IMPORT_DIR"
        return Unready("SPOOL_FAILS", message, retry_after_s=_RETRY_S)
