"""Find and remove what uploads of artifacts left on the broker when they broke off."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from nats.aio.client import Client
from nats.js.api import RawStreamMsg
from nats.js.errors import NotFoundError

from labelloop.artifacts.store import chunk_subject, meta_subject
from labelloop.errors import Corrupt
from labelloop.eventlog.connection import jetstream
from labelloop.eventlog.stream_subjects import counted_subjects
from labelloop.eventlog.subjects import ARTIFACT_BUCKET

_STREAM = f"OBJ_{ARTIFACT_BUCKET}"
_CHUNKS, _METAS = chunk_subject(""), f"$O.{ARTIFACT_BUCKET}.M."
_OF_DIGEST = re.compile(r"([0-9a-f]{64})(-chunks)?")


@dataclass(frozen=True)
class Leftover:
    """Parts of an artifact that was never stored whole.

    Attributes:
        name: What the broker knows the parts by.
        digest: Digest of the artifact; empty if the name does not tell it, as in uploads of earlier versions.
        parts: Number of parts.
        newest_at: When the newest part was stored.
        last: Sequence of the newest part.
    """

    name: str
    digest: str
    parts: int
    newest_at: datetime
    last: int


class Leftovers:
    """Parts in the broker's artifact store. Artifacts at other URLs are written whole or not at all."""

    def __init__(self, client: Client) -> None:
        self._client, self._js = client, jetstream(client)

    async def find(self, older_than: timedelta) -> list[Leftover]:
        """List the parts that belong to no artifact and whose newest is older than that, by name.

        Keeps the names of all artifacts in memory, about 200 bytes each.
        """
        counts = await self._counts()
        loose = {
            subject.removeprefix(_CHUNKS): count
            for subject, count in counts.items()
            if subject.startswith(_CHUNKS) and not _is_whole(subject.removeprefix(_CHUNKS), counts)
        }
        if any(not _digest_of(name) for name in loose):
            owned = await self._owned(_told_by_no_chunk(counts))
            loose = {name: count for name, count in loose.items() if name not in owned}
        before = datetime.now(UTC) - older_than
        found = [await self._leftover(name, count) for name, count in sorted(loose.items())]
        return [each for each in found if each and each.newest_at < before]

    async def remove(self, leftover: Leftover) -> bool:
        """Remove parts and return True; return False if somebody has stored the artifact, or parts of it, since.

        Raises:
            NotAllowed: If the broker's permissions forbid it.
            Corrupt: If somebody stored the artifact at that very moment.
        """
        standing = await self._leftover(leftover.name, leftover.parts)
        if standing is None or standing.last != leftover.last or await self._is_stored(leftover):
            return False
        await self._js.purge_stream(_STREAM, seq=leftover.last + 1, subject=chunk_subject(leftover.name))
        if await self._is_stored(leftover):
            message = f"artifact {leftover.digest} was stored while its parts were removed; restore it from a backup"
            raise Corrupt("SWEPT_TOO_MUCH", message, artifact=leftover.digest)
        return True

    async def _is_stored(self, leftover: Leftover) -> bool:
        return bool(leftover.digest) and await self._last(meta_subject(leftover.digest)) is not None

    async def _counts(self) -> dict[str, int]:
        """Return the number of messages by subject."""
        return await counted_subjects(self._client, _STREAM, f"$O.{ARTIFACT_BUCKET}.>")

    async def _owned(self, metas: Collection[str]) -> set[str]:
        """Return the names of the chunks that these objects own."""
        messages = [await self._last(subject) for subject in metas]
        try:
            return {str(json.loads(message.data or b"")["nuid"]) for message in messages if message}
        except (ValueError, KeyError, TypeError) as error:
            message = f"an object in the bucket {ARTIFACT_BUCKET} cannot be read: {error}; nothing was removed"
            raise Corrupt("BAD_OBJECT", message) from error

    async def _leftover(self, name: str, count: int) -> Leftover | None:
        newest = await self._last(chunk_subject(name))
        if newest is None or newest.time is None:
            return None
        return Leftover(name, _digest_of(name), count, newest.time, newest.seq or 0)

    async def _last(self, subject: str) -> RawStreamMsg | None:
        try:
            return await self._js.get_last_msg(_STREAM, subject)
        except NotFoundError:
            return None


def _digest_of(name: str) -> str:
    """Return the digest that the name of chunks tells; empty if it tells none."""
    found = _OF_DIGEST.fullmatch(name)
    return found[1] if found else ""


def _is_whole(name: str, counts: Mapping[str, int]) -> bool:
    digest = _digest_of(name)
    return bool(digest) and meta_subject(digest) in counts


def _told_by_no_chunk(counts: Mapping[str, int]) -> set[str]:
    """Return the subjects of objects whose chunks are not named by their digest."""
    digests = {_digest_of(subject.removeprefix(_CHUNKS)) for subject in counts if subject.startswith(_CHUNKS)}
    own = {meta_subject(digest) for digest in digests if digest}
    return {subject for subject in counts if subject.startswith(_METAS)} - own
