"""Tell the events of an import from others of the same run id: by their number and a digest. No I/O."""

from __future__ import annotations

from hashlib import sha256

from labelloop.events.v1.events_pb2 import ImportedEvents

_LENGTH_BYTES = 8


class EventsDigest:
    """Counts and digests events in their order, as ``RunStarted.imported`` does."""

    def __init__(self) -> None:
        self._count, self._sha256 = 0, sha256()

    def add(self, data: bytes) -> None:
        """Add the next event, by its bytes in the stream. ``run_started`` is none of them."""
        self._count += 1
        self._sha256.update(len(data).to_bytes(_LENGTH_BYTES, "big"))
        self._sha256.update(data)

    @property
    def count(self) -> int:
        return self._count

    def imported(self) -> ImportedEvents:
        """Return what ``run_started`` says of the events added so far."""
        return ImportedEvents(count=self._count, sha256=self._sha256.hexdigest() if self._count else "")
