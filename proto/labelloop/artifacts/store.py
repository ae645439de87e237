"""Store artifacts by their SHA-256 digest, computed on writing and verified on reading.

By default artifacts are kept in a bucket of JetStream's object store, so that the broker is all that is needed. For
folders and object stores see :mod:`labelloop.artifacts.fsspec_store`.
"""

from __future__ import annotations

import asyncio
import io
import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from typing import Protocol

import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js.api import ObjectInfo, ObjectMetaOptions, RawStreamMsg
from nats.js.errors import APIError, NotFoundError
from nats.js.object_store import ObjectStore

from labelloop.errors import Corrupt, InvalidInput, NotFound, Unready
from labelloop.eventlog.broker_answers import INSUFFICIENT_RESOURCES, STORAGE_EXCEEDED, STORE_FAILED
from labelloop.eventlog.conditional_publish import publish_over
from labelloop.eventlog.connection import jetstream
from labelloop.eventlog.retry import broker_is_away, retry_while_away
from labelloop.eventlog.strays import IsOurs, first_of_ours, publish_first
from labelloop.eventlog.stream_setup import ensure_stream
from labelloop.eventlog.stream_subjects import counted_subjects
from labelloop.eventlog.streams import ARTIFACTS, artifacts
from labelloop.eventlog.subjects import ARTIFACT_BUCKET
from labelloop.runtime.crash_points import crash_point

JETSTREAM = "jetstream:"  # the URL of the broker's own store
_STORE = "the broker's artifact store"
_CHUNK_BYTES = 512 * 1024
_DIGEST = re.compile("[0-9a-f]{64}")
_METAS = f"$O.{ARTIFACT_BUCKET}.M."
_NO_ROOM = (INSUFFICIENT_RESOURCES, STORAGE_EXCEEDED, STORE_FAILED)  # of the account, on the disk, in the stream
_ABSENT_TRIES = 8  # within some ten seconds
_CHUNK_NUMBER = "Labelloop-Chunk"  # a header, from 1

log = structlog.get_logger()


class ArtifactStore(Protocol):
    async def put(self, data: bytes) -> str:
        """Store ``data`` and return its SHA-256 as 64 hex digits. Storing the same bytes again changes nothing."""
        ...

    async def get(self, digest: str) -> bytes:
        """Return the artifact ``digest``.

        Raises:
            InvalidInput: If ``digest`` is none: clients may send any text, which must not reach paths and subjects.
            NotFound: If there is no such artifact.
            Corrupt: If its bytes do not match.
        """
        ...


class ErasableStore(ArtifactStore, Protocol):
    """A store that artifacts can be removed from, with a key that may."""

    async def remove(self, digest: str) -> bool:
        """Remove an artifact, or what is left of it, and return whether anything was.

        The caller knows that nobody needs it.
        """
        ...

    async def listed(self) -> list[str]:
        """Return the digests of all artifacts."""
        ...


def digest_of(data: bytes) -> str:
    return sha256(data).hexdigest()


def is_digest(text: str) -> bool:
    return bool(_DIGEST.fullmatch(text))


def check_digest(text: str) -> None:
    """Raise InvalidInput if ``text`` is no SHA-256 as artifacts are named."""
    if not is_digest(text):
        message = f"{text[:64]!r} is no SHA-256: name an artifact by 64 lower-case hex digits"
        raise InvalidInput("BAD_DIGEST", message, digest=text[:64])


def checked(digest: str, data: bytes) -> bytes:
    """Return ``data``. Raises Corrupt unless it is the artifact ``digest``."""
    if (found := digest_of(data)) != digest:
        message = f"artifact {digest} holds other bytes (SHA-256 {found}); restore it from a backup"
        raise Corrupt("ARTIFACT_CORRUPT", message, artifact=digest, found=found)
    return data


def missing(digest: str) -> NotFound:
    return NotFound("UNKNOWN_ARTIFACT", f"the artifact store holds no {digest}", artifact=digest)


class JetStreamArtifacts:
    """Artifacts in a bucket of JetStream's object store (NATS ADR-20).

    An artifact that fits into one chunk, as every model does, is written to and read from a chunk subject named by its
    digest. This takes two requests to store and one to read instead of four and six, and the broker rejects a second
    write. Larger artifacts have a subject of their own, to which chunks are appended in order. Another writer of the
    same artifact, or a repetition after an interruption, appends what is missing. Other clients of the object store
    see ordinary objects.
    """

    def __init__(self, client: Client, replicas: int = 1) -> None:
        self._client, self._js, self._replicas = client, jetstream(client), replicas
        self._bucket: ObjectStore | None = None
        self._made = False

    async def _open(self) -> ObjectStore:
        """Open the bucket to read; NotFoundError if it does not exist yet: readers may not be allowed to create it."""
        if self._bucket is None:
            self._bucket = await self._js.object_store(ARTIFACT_BUCKET)
        return self._bucket

    async def _make(self) -> ObjectStore:
        """Open the bucket to write: create it if it does not exist, and add replicas if it has too few."""
        if not self._made:
            await ensure_stream(self._client, artifacts(self._replicas))
            self._made = True
        return await self._open()

    async def put(self, data: bytes) -> str:
        digest = digest_of(data)
        crash_point("before put")
        try:
            await retry_while_away(lambda: self._put(digest, data), self._passing(digest), _STORE)
        except APIError as error:
            message = f"the broker does not store artifact {digest}: {error.description}; the run goes on once it does"
            raise Unready("ARTIFACT_STORE_FAILS", message, retry_after_s=1, artifact=digest) from error
        crash_point("after put")
        return digest

    def _passing(self, digest: str) -> Callable[[BaseException], bool]:
        """Return a function that tells whether storing an artifact is worth another try, and logs each new cause.

        A broker without room is none: the run is held up, and says why. Nor is one that has no bucket for long; nodes
        of a cluster hear of a new one at different times.
        """
        told: set[str] = set()
        absent = 0

        def passes(error: BaseException) -> bool:
            nonlocal absent
            full = isinstance(error, APIError) and error.err_code in _NO_ROOM
            if is_absent := isinstance(error, NotFoundError):
                self._bucket, self._made, absent = None, False, absent + 1
            if full or not (broker_is_away(error) or (is_absent and absent <= _ABSENT_TRIES)):
                return False
            problem = str(error) or type(error).__name__
            if problem not in told:
                log.warning("artifact_not_stored_yet", artifact=digest, problem=problem)
            told.add(problem)
            return True

        return passes

    async def _put(self, digest: str, data: bytes) -> None:
        await self._make()
        await (self._put_chunk(digest, data) if len(data) <= _CHUNK_BYTES else self._put_chunks(digest, data))

    async def _put_chunk(self, digest: str, data: bytes) -> None:
        await asyncio.gather(  # no event refers to the artifact before both are written
            publish_first(self._js, ARTIFACTS, chunk_subject(digest), data, _holds(digest)),
            publish_first(self._js, ARTIFACTS, meta_subject(digest), _meta(digest, digest, len(data)), _names(digest)),
        )

    async def _put_chunks(self, digest: str, data: bytes) -> None:
        if not await first_of_ours(self._js, ARTIFACTS, meta_subject(digest), _names(digest)):
            chunks = [data[at : at + _CHUNK_BYTES] for at in range(0, len(data), _CHUNK_BYTES)]
            await self._write_chunks(chunk_subject(chunks_name(digest)), chunks)
            meta = _meta(digest, chunks_name(digest), len(data))
            await publish_first(self._js, ARTIFACTS, meta_subject(digest), meta, _names(digest))

    async def _write_chunks(self, subject: str, chunks: Sequence[bytes]) -> None:
        """Append those chunks to ``subject`` that it does not hold yet."""
        done, last = await self._end_of(subject)
        while done < len(chunks):
            written = await publish_over(self._js, subject, chunks[done], last, {_CHUNK_NUMBER: str(done + 1)})
            done, last = (done + 1, written) if written else await self._end_of(subject)
        if not await self._are_all(subject, len(chunks)):
            message = (
                f"parts under {subject} were removed while others were added: remove the rest by `labelloop artifacts "
                "sweep --remove` an hour from now, and the artifact is stored again"
            )
            raise Unready("ARTIFACT_SWEPT", message, retry_after_s=60, subject=subject)

    async def _end_of(self, subject: str) -> tuple[int, int]:
        """Return the number of chunks under ``subject`` and the sequence of the last one; 0 and 0 if there is none."""
        try:
            last = await self._js.get_last_msg(ARTIFACTS, subject)
        except NotFoundError:
            return 0, 0
        if number := _chunk_number(last):
            return number, last.seq or 0
        return max([number async for number, _ in self._chunks(subject)], default=0), last.seq or 0

    async def _are_all(self, subject: str, count: int) -> bool:
        info = await self._js.stream_info(ARTIFACTS, subjects_filter=subject)
        if (info.state.subjects or {}).get(subject) == count:
            return True
        return [number async for number, _ in self._chunks(subject)] == list(range(1, count + 1))

    async def _chunks(self, subject: str) -> AsyncGenerator[tuple[int, bytes], None]:
        """Yield the chunks under ``subject`` with their numbers, without messages that are none."""
        sequence = 1
        while True:
            try:
                message = await self._js.get_msg(ARTIFACTS, sequence, subject=subject, next=True)
            except NotFoundError:
                return
            if number := _chunk_number(message):
                yield number, message.data or b""
            sequence = (message.seq or 0) + 1

    async def get(self, digest: str) -> bytes:
        check_digest(digest)
        try:
            return checked(digest, await retry_while_away(lambda: self._read(digest), what=_STORE))
        except NotFoundError as error:
            raise missing(digest) from error

    async def _read(self, digest: str) -> bytes:
        bucket = await self._open()
        whole = await self._read_whole(digest)
        if whole is not None and digest_of(whole) == digest:
            return whole
        try:
            return await _read_object(bucket, digest)
        except (NatsError, Corrupt, ValueError, TypeError) as error:
            chunks = [data async for _, data in self._chunks(chunk_subject(chunks_name(digest)))]
            if chunks and digest_of(data := b"".join(chunks)) == digest:
                log.warning("artifact_read_between_strays", artifact=digest, problem=str(error) or type(error).__name__)
                return data
            if whole is not None:
                return whole  # which is damaged
            raise

    async def remove(self, digest: str) -> bool:
        """Remove an artifact, or what is left of it, and return whether anything was.

        What makes chunks an object goes first: if only the chunks were gone, a writer would take the artifact for
        stored.

        Raises:
            NotAllowed: If the broker's permissions forbid it.
        """
        check_digest(digest)
        subjects = (meta_subject(digest), chunk_subject(digest), chunk_subject(chunks_name(digest)))
        removed = [await retry_while_away(partial(self._purge, subject), what=_STORE) for subject in subjects]
        return any(removed)

    async def _purge(self, subject: str) -> bool:
        try:
            last = (await self._js.get_last_msg(ARTIFACTS, subject)).seq or 0
        except NotFoundError:
            return False
        return await self._js.purge_stream(ARTIFACTS, seq=last + 1, subject=subject)

    async def listed(self) -> list[str]:
        subjects = await counted_subjects(self._client, ARTIFACTS, f"{_METAS}>")
        return [digest for subject in subjects if (digest := _digest_of_meta(subject))]

    async def _read_whole(self, digest: str) -> bytes | None:
        """Return an artifact of one chunk; other bytes if only those are there, None if nothing is."""
        subject = chunk_subject(digest)
        try:
            data = (await self._js.get_last_msg(ARTIFACTS, subject)).data or b""
        except NotFoundError:
            return None
        if digest_of(data) == digest:
            return data
        found = await first_of_ours(self._js, ARTIFACTS, subject, _holds(digest))
        return found.data or b"" if found else data


async def _read_object(bucket: ObjectStore, digest: str) -> bytes:
    buffer = io.BytesIO()  # without a file to write to, nats-py's get is quadratic in the size
    await bucket.get(digest, writeinto=buffer)
    return checked(digest, buffer.getvalue())


def _holds(digest: str) -> IsOurs:
    """Return a function that tells whether a message holds the artifact ``digest``."""
    return lambda message: digest_of(message.data or b"") == digest


def _names(digest: str) -> IsOurs:
    """Return a function that tells whether a message makes chunks the object ``digest``."""

    def names(message: RawStreamMsg) -> bool:
        try:
            said = json.loads(message.data or b"")
        except (ValueError, RecursionError):
            return False
        return isinstance(said, dict) and said.get("name") == digest and "nuid" in said

    return names


def _chunk_number(message: RawStreamMsg) -> int:
    """Return the number of a chunk, from 1; 0 if the message is none."""
    text = (message.headers or {}).get(_CHUNK_NUMBER, "")
    return int(text) if text.isascii() and text.isdecimal() else 0


def chunk_subject(name: str) -> str:
    """Return the subject of an object's chunks; ``name`` is its nuid in the terms of the object store."""
    return f"$O.{ARTIFACT_BUCKET}.C.{name}"


def meta_subject(digest: str) -> str:
    """Return the subject of the message that makes chunks an object."""
    return f"{_METAS}{urlsafe_b64encode(digest.encode()).decode()}"


def _digest_of_meta(subject: str) -> str:
    """Return the digest of the artifact that a subject makes an object; empty if it is that of another object."""
    try:
        name = urlsafe_b64decode(subject.removeprefix(_METAS)).decode()
    except ValueError:
        return ""
    return name if is_digest(name) else ""


def chunks_name(digest: str) -> str:
    """Return the nuid of an artifact of several chunks.

    It is not the digest: under that readers expect a whole artifact.
    """
    return f"{digest}-chunks"


def _meta(digest: str, nuid: str, size: int) -> bytes:
    info = ObjectInfo(
        name=digest,
        bucket=ARTIFACT_BUCKET,
        nuid=nuid,
        size=size,
        chunks=max(1, -(-size // _CHUNK_BYTES)),
        digest=f"SHA-256={urlsafe_b64encode(bytes.fromhex(digest)).decode()}",
        options=ObjectMetaOptions(max_chunk_size=_CHUNK_BYTES),
        mtime=datetime.now(UTC).isoformat(),
    )
    return json.dumps(info.as_dict()).encode()
