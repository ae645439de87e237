"""Store artifacts by their SHA-256 digest, computed on writing and verified on reading.

By default artifacts are kept in a bucket of JetStream's object store, so that the broker is all that is needed. For
folders and object stores see :mod:`labelloop.artifacts.fsspec_store`.
"""

from __future__ import annotations

import asyncio
import io
import json
from base64 import urlsafe_b64encode
from datetime import UTC, datetime
from hashlib import sha256
from typing import Protocol

from nats.aio.client import Client
from nats.js.api import ObjectInfo, ObjectMeta, ObjectMetaOptions, ObjectStoreConfig, StorageType
from nats.js.errors import NotFoundError
from nats.js.object_store import ObjectStore

from labelloop.errors import Corrupt, NotFound
from labelloop.eventlog.conditional_publish import ensure_replicas, publish_once, read_or_make
from labelloop.eventlog.connection import jetstream
from labelloop.eventlog.retry import retry_while_away
from labelloop.eventlog.subjects import ARTIFACT_BUCKET
from labelloop.runtime.crash_points import crash_point

_CHUNK_BYTES = 512 * 1024


class ArtifactStore(Protocol):
    async def put(self, data: bytes) -> str:
        """Store ``data`` and return its SHA-256 as 64 hex digits. Storing the same bytes again changes nothing."""
        ...

    async def get(self, digest: str) -> bytes:
        """Return the artifact ``digest``; raise NotFound if there is none, Corrupt if its bytes do not match."""
        ...


def digest_of(data: bytes) -> str:
    return sha256(data).hexdigest()


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
    write. Other clients of the object store see an ordinary object. Larger artifacts go through nats-py.
    """

    def __init__(self, client: Client, replicas: int = 1) -> None:
        self._js, self._replicas = jetstream(client), replicas
        self._bucket: ObjectStore | None = None
        self._made = False

    async def _open(self) -> ObjectStore:
        """Open the bucket to read; NotFoundError if it does not exist yet: readers may not be allowed to create it."""
        if self._bucket is None:
            self._bucket = await self._js.object_store(ARTIFACT_BUCKET)
        return self._bucket

    async def _make(self) -> ObjectStore:
        """Open the bucket to write: create it if it does not exist, and add replicas if it has too few."""
        config = ObjectStoreConfig(storage=StorageType.FILE, replicas=self._replicas)
        self._bucket = bucket = await read_or_make(
            self._open, lambda: self._js.create_object_store(ARTIFACT_BUCKET, config)
        )
        if not self._made:
            await ensure_replicas(self._js, (await bucket.status()).stream_info.config, self._replicas)
            self._made = True
        return bucket

    async def put(self, data: bytes) -> str:
        digest = digest_of(data)
        crash_point("before put")
        await retry_while_away(lambda: self._put(digest, data))
        crash_point("after put")
        return digest

    async def _put(self, digest: str, data: bytes) -> None:
        bucket = await self._make()
        await (self._put_chunk(digest, data) if len(data) <= _CHUNK_BYTES else _put(bucket, digest, data))

    async def _put_chunk(self, digest: str, data: bytes) -> None:
        info = ObjectInfo(
            name=digest,
            bucket=ARTIFACT_BUCKET,
            nuid=digest,
            size=len(data),
            chunks=1,
            digest=f"SHA-256={urlsafe_b64encode(bytes.fromhex(digest)).decode()}",
            options=ObjectMetaOptions(max_chunk_size=_CHUNK_BYTES),
            mtime=datetime.now(UTC).isoformat(),
        )
        meta_subject = f"$O.{ARTIFACT_BUCKET}.M.{urlsafe_b64encode(digest.encode()).decode()}"
        await asyncio.gather(  # no event refers to the artifact before both are written
            publish_once(self._js, _chunk_subject(digest), data),
            publish_once(self._js, meta_subject, json.dumps(info.as_dict()).encode()),
        )

    async def get(self, digest: str) -> bytes:
        try:
            return checked(digest, await retry_while_away(lambda: self._read(digest)))
        except NotFoundError as error:
            raise missing(digest) from error

    async def _read(self, digest: str) -> bytes:
        bucket = await self._open()
        try:
            return (await self._js.get_last_msg(f"OBJ_{ARTIFACT_BUCKET}", _chunk_subject(digest))).data or b""
        except NotFoundError:
            buffer = io.BytesIO()  # without a file to write to, nats-py's get is quadratic in the size
            await bucket.get(digest, writeinto=buffer)
            return buffer.getvalue()


def _chunk_subject(digest: str) -> str:
    return f"$O.{ARTIFACT_BUCKET}.C.{digest}"


async def _put(bucket: ObjectStore, digest: str, data: bytes) -> None:
    """Store an artifact unless it exists: nats-py would rewrite it and delete old chunks while they are being read."""
    try:
        await bucket.get_info(digest)
    except NotFoundError:
        await bucket.put(digest, data, ObjectMeta(name=digest, options=ObjectMetaOptions(max_chunk_size=_CHUNK_BYTES)))
