"""Read an exported run piece by piece, so that it takes the same little memory whatever its size."""

from __future__ import annotations

import io
import os
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from google.protobuf import json_format
from labelloop.errors import InvalidInput, NotFound
from labelloop.events.v1.events_pb2 import Event
from labelloop.trainer.v1.trainer_pb2 import ArtifactPiece

from labelloop_cli.ledger.members import ARTIFACTS, EVENTS, MEMBERS_MAX, bad_archive, check_members, too_large

_PIECE_BYTES = 1024 * 1024
_LINE_BYTES_MAX = 16 * 1024 * 1024  # an event has a megabyte, and its JSON about five times as much
_DIRECTORY_BYTES_MAX = 128 * 1024 * 1024
_DIRECTORY_ENTRY = b"PK\x01\x02"
_LIST_BYTES_MAX = 64 * 1024 * 1024
# What reading a damaged archive raises: ValueError for names that are no UTF-8, OverflowError for offsets of 64 bits.
_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError),
    *(OSError, ValueError, OverflowError),
)


class _Directory(io.FileIO):
    """The file of an archive, of which no more is read at once than a sound list of its members may have."""

    def read(self, size: int | None = -1) -> bytes:
        most = min(_DIRECTORY_BYTES_MAX, os.fstat(self.fileno()).st_size) + 1  # read() reserves as much as it is told
        data = super().read(most if size is None or size < 0 else min(size, most))
        if len(data) > _DIRECTORY_BYTES_MAX or data.count(_DIRECTORY_ENTRY) > MEMBERS_MAX:
            raise too_large(f"it lists more than {MEMBERS_MAX:,} files", MEMBERS_MAX)
        return data


class Ledger:
    """An exported run in a zip archive; see :func:`opened`."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._members = {member.filename: member for member in archive.infolist()}

    def events(self) -> Iterator[Event]:
        """Yield the events in order. Raises InvalidInput if a line is none."""
        for number, line in enumerate(_lines(self._pieces(EVENTS)), start=1):
            try:
                yield json_format.Parse(line.decode(), Event())
            except (json_format.ParseError, ValueError, RecursionError) as error:
                raise bad_archive(f"line {number:,} of {EVENTS} is no event: {str(error)[:200]}") from error

    def artifacts(self) -> dict[str, None]:
        """Return the digests of the artifacts that the archive has, in its order."""
        return {name.removeprefix(ARTIFACTS): None for name in self._members if name != EVENTS}

    def pieces(self, digest: str) -> Iterator[ArtifactPiece]:
        """Yield an artifact in pieces, of which each but an empty last one has a megabyte."""
        for data in self._pieces(f"{ARTIFACTS}{digest}"):
            yield ArtifactPiece(sha256=digest, data=data)
        yield ArtifactPiece(sha256=digest, last=True)

    def whole(self, digest: str) -> bytes:
        """Return an artifact that lists others. Raises LimitExceeded if it is too large for one."""
        if self._members[f"{ARTIFACTS}{digest}"].file_size > _LIST_BYTES_MAX:
            raise too_large(f"artifact {digest} should list others, and is too large for that", _LIST_BYTES_MAX)
        return b"".join(self._pieces(f"{ARTIFACTS}{digest}"))

    def _pieces(self, name: str) -> Iterator[bytes]:
        member, size = self._members[name], 0
        with _damage_named(), self._archive.open(member) as file:
            while data := file.read(_PIECE_BYTES):
                size += len(data)
                yield data
        if size != member.file_size:
            raise bad_archive(f"{name!r} has {size:,} bytes, not the {member.file_size:,} that it should have")


@contextmanager
def opened(path: Path) -> Iterator[Ledger]:
    """Open an exported run.

    Raises:
        NotFound: If there is no such file.
        InvalidInput: If it is no exported run, or turns out to be none while it is read.
        LimitExceeded: If what it holds would be too large.
    """
    if not path.exists():
        raise NotFound("NO_FILE", f"there is no file {path}", field="path", path=path)
    if not path.is_file():  # a pipe or a device may never end
        raise InvalidInput("BAD_LEDGER", f"{path} is no plain file: name what `labelloop export` wrote", field="path")
    with ExitStack() as stack:
        with _damage_named():
            archive = stack.enter_context(zipfile.ZipFile(stack.enter_context(_Directory(path))))
            check_members(archive.infolist(), path.stat().st_size)
        yield Ledger(archive)


@contextmanager
def _damage_named() -> Iterator[None]:
    """Raise InvalidInput where the archive cannot be read."""
    try:
        yield
    except _DAMAGE as error:
        raise bad_archive(f"it cannot be read: {error or type(error).__name__}") from error


def _lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        yield from whole
        if len(rest) > _LINE_BYTES_MAX:
            raise too_large(f"a line of {EVENTS} has more than {_LINE_BYTES_MAX:,} bytes", _LINE_BYTES_MAX)
    if rest:
        yield rest
