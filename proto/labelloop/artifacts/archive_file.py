"""Write and read the archive of a run: its events as they stood in the log, in the order of an export. No I/O.

The file is a line that names the format, and then one zlib stream of the events, each preceded by its length in bytes
as 8 bytes in big-endian order.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator

from labelloop.errors import Corrupt, LimitExceeded

_FORMAT = b"labelloop-run-archive 1\n"
_LENGTH_BYTES = 8
_EVENT_BYTES_MAX = 64 * 1024 * 1024
"""More than any broker takes in one message."""
_BYTES_MAX = 4 * 1024**3
_READ_BYTES = 1024 * 1024


def pack(events: Iterable[bytes]) -> bytes:
    """Return the archive of ``events``."""
    squeeze = zlib.compressobj()
    parts = [_FORMAT]
    for event in events:
        parts.append(squeeze.compress(len(event).to_bytes(_LENGTH_BYTES, "big")))
        parts.append(squeeze.compress(event))
    parts.append(squeeze.flush())
    return b"".join(parts)


def unpack(archive: bytes, event_count: int) -> Iterator[bytes]:
    """Yield the ``event_count`` events of ``archive``, which needs little more memory than the archive itself.

    Raises:
        Corrupt: If it is no archive of so many events.
        LimitExceeded: If it is larger, unpacked, than any archive.
    """
    if not archive.startswith(_FORMAT):
        raise _corrupt("it does not begin as one")
    reader = _Reader(archive)
    for number in range(1, event_count + 1):
        length = int.from_bytes(reader.take(_LENGTH_BYTES, number), "big")
        if length > _EVENT_BYTES_MAX:
            raise _corrupt(f"event {number} has {length} bytes")
        yield reader.take(length, number)
    reader.check_end(event_count)


class _Reader:
    """Takes bytes of the unpacked archive, piece by piece."""

    def __init__(self, archive: bytes) -> None:
        self._packed, self._at = memoryview(archive), len(_FORMAT)
        self._stretch = zlib.decompressobj()
        self._rest = b""
        self._buffer = bytearray()
        self._bytes = 0

    def take(self, count: int, number: int) -> bytes:
        while len(self._buffer) < count:
            if not (more := self._more()):
                raise _corrupt(f"it ends within event {number}")
            self._buffer += more
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    def check_end(self, event_count: int) -> None:
        if self._buffer or self._more() or self._stretch.unused_data or self._at < len(self._packed):
            raise _corrupt(f"it holds more than {event_count} events")
        if not self._stretch.eof:
            raise _corrupt("its end is missing")

    def _more(self) -> bytes:
        """Unpack up to a megabyte; empty at the end."""
        while not self._stretch.eof:
            if not self._rest:
                self._rest = bytes(self._packed[self._at : self._at + _READ_BYTES])
                self._at += len(self._rest)
            if not self._rest:
                return b""
            try:
                data = self._stretch.decompress(self._rest, _READ_BYTES)
            except zlib.error as error:
                raise _corrupt(str(error)) from error
            self._rest = self._stretch.unconsumed_tail
            if data:
                self._count(len(data))
                return data
        return b""

    def _count(self, more: int) -> None:
        self._bytes += more
        if self._bytes > _BYTES_MAX:
            message = f"the archive of a run holds more than {_BYTES_MAX} bytes: nothing that labelloop wrote does"
            raise LimitExceeded("ARCHIVE_TOO_LARGE", message, most=_BYTES_MAX)


def _corrupt(what: str) -> Corrupt:
    return Corrupt("BAD_ARCHIVE", f"this is no archive of a run: {what}; restore the artifact from a backup")
