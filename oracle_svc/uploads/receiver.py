"""Receive uploads: check what clients send, store it, list it and remove it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from labelloop.artifacts.store import digest_of
from labelloop.artifacts.upload_manifest import MANIFEST_BYTES_MAX, PART_BYTES, UploadedFile, read_manifest
from labelloop.domain.limits import TEXT_CHARACTERS_MAX
from labelloop.domain.names import name_fault
from labelloop.errors import InvalidInput, LimitExceeded, NotFound, WrongState
from labelloop.oracle.v1 import oracle_pb2 as pb
from labelloop.oracle.v1.oracle_pb2 import Upload

from oracle_svc.uploads.references import checked_id
from oracle_svc.uploads.store import UploadStore

_ASKED_MAX, _PUT_MAX, _UPLOADS_MAX = 10_000, 1_000, 1_000


class UploadReceiver:
    """Receives uploads of ``bytes_max`` in all; 0 refuses them."""

    def __init__(self, store: UploadStore, bytes_max: int) -> None:
        self._store, self._bytes_max = store, bytes_max

    async def missing(self, digests: Sequence[str]) -> list[str]:
        self._refuse_if_off()
        _check_count(len(digests), _ASKED_MAX, "sha256")
        return await self._store.missing([checked_id(digest, "sha256") for digest in digests])

    async def put_parts(self, parts: Sequence[pb.UploadPart]) -> int:
        """Store parts, and return how many they are. All are checked before the first is stored."""
        self._refuse_if_off()
        _check_count(len(parts), _PUT_MAX, "parts")
        await asyncio.to_thread(_check_parts, parts)
        await asyncio.gather(*(self._store.put_part(part.sha256, part.data) for part in parts))
        return len(parts)

    async def put_upload(self, request: pb.PutUploadRequest) -> Upload:
        """List an upload, after checking that it is whole.

        Raises:
            InvalidInput: If its manifest or its name is not in order.
            WrongState: If a part is missing.
            LimitExceeded: If it or all uploads together are too large.
        """
        self._refuse_if_off()
        upload_id, parts = checked_id(request.id, "id"), list(request.manifest_parts)
        _check_name(request.name)
        standing = {upload.id: upload for upload in await self._store.entries()}
        if upload_id in standing:
            return standing[upload_id]
        _check_count(len(standing) + 1, _UPLOADS_MAX, "uploads")
        files = await self.files(upload_id, [checked_id(part, "manifest_parts") for part in parts])
        size = sum(file.size for file in files)
        self._check_room(size, standing.values())
        upload = Upload(id=upload_id, name=request.name, bytes=size, file_count=len(files), manifest_parts=parts)
        upload.created_at.GetCurrentTime()
        await self._store.put_entry(upload)
        await self._check_whole(upload, files)  # afterwards: removals that begin from now on leave its parts
        return upload

    async def _check_whole(self, upload: Upload, files: Iterable[UploadedFile]) -> None:
        digests = list(dict.fromkeys((*upload.manifest_parts, *_digests(files))))
        if missing := await self._store.missing(digests):
            await self._store.delete_entry(upload.id)
            message = f"{len(missing):,} of {len(digests):,} parts are missing: send them, then put the upload again"
            raise WrongState("PARTS_MISSING", message, field="manifest_parts", missing=len(missing))

    async def files(self, upload_id: str, manifest_parts: Sequence[str]) -> list[UploadedFile]:
        """Return the files of an upload. Raises InvalidInput if these are not the parts of a sound manifest."""
        return await read_files(self._store, upload_id, manifest_parts)

    async def listed(self) -> pb.ListUploadsResponse:
        return pb.ListUploadsResponse(uploads=await self._store.entries(), bytes_max=self._bytes_max)

    async def remove(self, upload_id: str) -> int:
        """Remove an upload with the parts that no other one has, and return how many these are. Raises NotFound."""
        upload = await self._store.entry(checked_id(upload_id, "id"))
        own = await self._parts_of(upload)
        await self._store.delete_entry(upload.id)
        for other in await self._store.entries():
            own -= await self._parts_of(other)
        await self._store.delete_parts(own)
        return len(own)

    async def _parts_of(self, upload: Upload) -> set[str]:
        try:
            files = await self.files(upload.id, upload.manifest_parts)
        except NotFound:  # its removal was interrupted
            files = []
        return {*upload.manifest_parts, *_digests(files)}

    def _refuse_if_off(self) -> None:
        if not self._bytes_max:
            message = (
                "this oracle takes no uploads: name a path on its machine, or ask the operator to set "
                "LABELLOOP_UPLOAD_GB"
            )
            raise LimitExceeded("UPLOADS_OFF", message)

    def _check_room(self, size: int, others: Iterable[Upload]) -> None:
        used = sum(upload.bytes for upload in others)
        if used + size > self._bytes_max:
            message = (
                f"the upload has {size:,} bytes and the others {used:,}, but all may have {self._bytes_max:,}: remove "
                "some with `labelloop pool rm`, or ask the operator to raise LABELLOOP_UPLOAD_GB"
            )
            raise LimitExceeded("UPLOADS_FULL", message, most=self._bytes_max)


async def read_files(store: UploadStore, upload_id: str, manifest_parts: Sequence[str]) -> list[UploadedFile]:
    """Read the manifest of an upload. Raises NotFound if a part is missing, InvalidInput if it is not sound."""
    if not 0 < len(manifest_parts) <= MANIFEST_BYTES_MAX // PART_BYTES:
        message = f"a manifest has 1 to {MANIFEST_BYTES_MAX // PART_BYTES} parts, not {len(manifest_parts)}"
        raise InvalidInput("BAD_MANIFEST", message, field="manifest_parts")
    data = b"".join([await store.part(digest) for digest in manifest_parts])
    return await asyncio.to_thread(_files, upload_id, data)


def _files(upload_id: str, data: bytes) -> list[UploadedFile]:
    if digest_of(data) != upload_id:
        message = f"the parts of the manifest are not those of upload {upload_id}: their digest is another"
        raise InvalidInput("BAD_MANIFEST", message, field="id", upload_id=upload_id)
    return read_manifest(data)


def _digests(files: Iterable[UploadedFile]) -> set[str]:
    return {digest for file in files for digest in file.part_digests}


def _check_parts(parts: Iterable[pb.UploadPart]) -> None:
    for part in parts:
        if not 0 < len(part.data) <= PART_BYTES:
            message = f"a part has 1 to {PART_BYTES} bytes, not {len(part.data)}"
            raise InvalidInput("BAD_PART", message, field="parts", sha256=part.sha256)
        if digest_of(part.data) != part.sha256:
            message = f"a part was said to have the SHA-256 {part.sha256[:64]!r}, but has another: send it again"
            raise InvalidInput("BAD_PART", message, field="parts", sha256=part.sha256)


def _check_name(name: str) -> None:
    if len(name) > TEXT_CHARACTERS_MAX:
        message = f"the name of an upload has at most {TEXT_CHARACTERS_MAX} characters, not {len(name)}"
        raise InvalidInput("NAME_TOO_LONG", message, field="name", most=TEXT_CHARACTERS_MAX)
    if fault := name_fault(name):
        raise InvalidInput("BAD_NAME", f"the name of the upload is refused: {fault}", field="name")


def _check_count(count: int, most: int, field: str) -> None:
    if count > most:
        message = f"{field}: at most {most:,} are allowed, not {count:,}"
        raise LimitExceeded("TOO_MANY", message, field=field, most=most)
