"""Keep uploads in the broker: parts of files under their digests, and an entry for each upload."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Protocol, TypeVar

from google.protobuf.message import DecodeError
from labelloop.artifacts.store import digest_of
from labelloop.errors import Corrupt, LimitExceeded, NotFound
from labelloop.eventlog.broker_answers import STORAGE_EXCEEDED, STORE_FAILED, RefusedByBroker
from labelloop.eventlog.connection import jetstream
from labelloop.eventlog.retry import broker_is_away, retry_while_away
from labelloop.eventlog.strays import IsOurs, first_of_ours, is_answer, is_no_answer, publish_first
from labelloop.eventlog.stream_setup import ensure_stream
from labelloop.eventlog.streams import UPLOADS, UPLOADS_PREFIX, uploads
from labelloop.oracle.v1.oracle_pb2 import Upload
from nats.aio.client import Client
from nats.js.errors import APIError, NotFoundError

STREAM, PREFIX = UPLOADS, UPLOADS_PREFIX
_AT_ONCE = 32
_GROUP_DIGITS = 2  # of a million parts, 4,000 are in a group

T = TypeVar("T")


class UploadStore(Protocol):
    """Where parts of files and the entries of uploads are. All methods may be repeated."""

    async def missing(self, digests: Sequence[str]) -> list[str]:
        """Return those of the parts that are not stored, in their order."""
        ...

    async def put_part(self, digest: str, data: bytes) -> None:
        """Store a part under the digest of its ``data``. Raises LimitExceeded if there is no room."""
        ...

    async def part(self, digest: str) -> bytes:
        """Return a part; raise NotFound if there is none, Corrupt if its bytes do not match."""
        ...

    async def delete_parts(self, digests: Iterable[str]) -> None:
        """Delete parts, those that do not exist included."""
        ...

    async def put_entry(self, upload: Upload) -> None:
        """List an upload, unless it is listed already. Raises LimitExceeded if there is no room."""
        ...

    async def entry(self, upload_id: str) -> Upload:
        """Return the entry of an upload; raise NotFound if there is none."""
        ...

    async def entries(self) -> list[Upload]:
        """Return the entries of all uploads, oldest first."""
        ...

    async def delete_entry(self, upload_id: str) -> None:
        """Remove an upload from the list."""
        ...


class JetStreamUploads:
    """Uploads in a stream of their own, which the broker keeps below ``bytes_max``."""

    def __init__(self, client: Client, bytes_max: int, replicas: int = 1) -> None:
        self._client, self._js = client, jetstream(client)
        self._bytes_max, self._replicas = bytes_max, replicas
        self._made = False

    async def _make(self) -> None:
        """Create the stream once. Raises LimitExceeded if the broker has not the room that it may take."""
        if self._made:
            return
        try:
            spec = uploads(self._bytes_max, self._replicas)
            await retry_while_away(lambda: ensure_stream(self._client, spec))
        except RefusedByBroker as error:
            if error.err_code != STORAGE_EXCEEDED:  # the broker reserves what a stream may take when it is made
                raise
            message = (
                f"the broker cannot set {self._bytes_max:,} bytes aside for uploads: ask the operator to lower "
                "LABELLOOP_UPLOAD_GB, or to give the broker more disk"
            )
            raise LimitExceeded("UPLOADS_FULL", message, most=self._bytes_max) from error
        self._made = True

    async def missing(self, digests: Sequence[str]) -> list[str]:
        patterns = sorted({_parts_like(digest) for digest in digests})
        stored = {subject for found in await _each(self._subjects, patterns) for subject in found}
        return [digest for digest in digests if _part(digest) not in stored]

    async def _subjects(self, pattern: str) -> list[str]:
        """Return the subjects of the stream's messages, without reading these."""
        try:
            info = await retry_while_away(lambda: self._js.stream_info(STREAM, subjects_filter=pattern))
        except NotFoundError:  # nothing was ever uploaded
            return []
        return list(info.state.subjects or ())

    async def put_part(self, digest: str, data: bytes) -> None:
        await self._publish(_part(digest), data, _is_part(digest))

    async def part(self, digest: str) -> bytes:
        data = await self._read(_part(digest))
        if data is not None and await asyncio.to_thread(digest_of, data) != digest:
            data = await self._first(_part(digest), _is_part(digest)) or data
        if data is None:
            message = f"an uploaded part {digest} is gone: push the upload again"
            raise NotFound("UPLOAD_INCOMPLETE", message, part=digest)
        if await asyncio.to_thread(digest_of, data) != digest:
            raise Corrupt("UPLOAD_CORRUPT", f"the uploaded part {digest} holds other bytes", part=digest)
        return data

    async def delete_parts(self, digests: Iterable[str]) -> None:
        await _each(self._purge, [_part(digest) for digest in digests])

    async def put_entry(self, upload: Upload) -> None:
        await self._publish(_entry(upload.id), upload.SerializeToString())

    async def entry(self, upload_id: str) -> Upload:
        data = await self._read(_entry(upload_id))
        if data is not None and is_answer(data):
            data = await self._first(_entry(upload_id), is_no_answer)
        if data is None:
            message = f"there is no upload {upload_id!r}: `labelloop pool list` shows those there are"
            raise NotFound("UNKNOWN_UPLOAD", message, upload_id=upload_id)
        try:
            return Upload.FromString(data)
        except DecodeError as error:
            message = f"the entry of upload {upload_id} cannot be read: remove the upload and push it again"
            raise Corrupt("UPLOAD_CORRUPT", message, upload_id=upload_id) from error

    async def entries(self) -> list[Upload]:
        ids = [subject.removeprefix(_entry("")) for subject in await self._subjects(_entry("*"))]
        found = await asyncio.gather(*map(self._entry_if_there, ids))
        return sorted(filter(None, found), key=lambda upload: upload.created_at.ToNanoseconds())

    async def _entry_if_there(self, upload_id: str) -> Upload | None:
        try:
            return await self.entry(upload_id)
        except NotFound:  # removed meanwhile
            return None

    async def delete_entry(self, upload_id: str) -> None:
        await self._purge(_entry(upload_id))

    async def _publish(self, subject: str, data: bytes, is_ours: IsOurs = is_no_answer) -> None:
        await self._make()
        try:
            await retry_while_away(lambda: publish_first(self._js, STREAM, subject, data, is_ours), _may_pass)
        except APIError as error:
            if error.err_code != STORE_FAILED:
                raise
            message = (
                f"uploads may take {self._bytes_max:,} bytes in all, and no more fit: remove some with "
                "`labelloop pool rm`, or ask the operator to raise LABELLOOP_UPLOAD_GB (or to free the broker's disk)"
            )
            raise LimitExceeded("UPLOADS_FULL", message, most=self._bytes_max) from error

    async def _read(self, subject: str) -> bytes | None:
        try:
            return (await retry_while_away(lambda: self._js.get_last_msg(STREAM, subject))).data or b""
        except NotFoundError:
            return None

    async def _first(self, subject: str, is_ours: IsOurs) -> bytes | None:
        """Return the first message of a subject that is ours; None if there is none."""
        found = await retry_while_away(lambda: first_of_ours(self._js, STREAM, subject, is_ours))
        return found.data or b"" if found else None

    async def _purge(self, subject: str) -> None:
        await retry_while_away(lambda: self._js.purge_stream(STREAM, subject=subject))


def _part(digest: str) -> str:
    return f"{PREFIX}.part.{digest[:_GROUP_DIGITS]}.{digest}"


def _parts_like(digest: str) -> str:
    """Return the pattern of the group of parts that ``digest`` belongs to: one request asks for all of them."""
    return f"{PREFIX}.part.{digest[:_GROUP_DIGITS]}.*"


def _is_part(digest: str) -> IsOurs:
    return lambda message: digest_of(message.data or b"") == digest


def _entry(upload_id: str) -> str:
    return f"{PREFIX}.entry.{upload_id}"


def _may_pass(error: BaseException) -> bool:
    return broker_is_away(error) and not (isinstance(error, APIError) and error.err_code == STORE_FAILED)


async def _each(work: Callable[[str], Awaitable[T]], subjects: Sequence[str]) -> list[T]:
    """Carry out ``work`` for each subject, a few at once, and return the results in their order."""
    done: list[T] = []
    for start in range(0, len(subjects), _AT_ONCE):
        done += await asyncio.gather(*map(work, subjects[start : start + _AT_ONCE]))
    return done
