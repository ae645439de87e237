"""Uploads in memory, in place of those in the broker."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from labelloop.artifacts.store import digest_of
from labelloop.artifacts.upload_manifest import PART_BYTES, UploadedFile, write_manifest
from labelloop.errors import NotFound
from labelloop.oracle.v1.oracle_pb2 import PutUploadRequest, Upload, UploadPart

from oracle_svc.uploads.receiver import UploadReceiver


class MemoryUploads:
    """Keeps parts and entries, and counts the parts that are read."""

    def __init__(self) -> None:
        self.parts: dict[str, bytes] = {}
        self.uploads: dict[str, Upload] = {}
        self.reads = 0

    async def missing(self, digests: Sequence[str]) -> list[str]:
        return [digest for digest in digests if digest not in self.parts]

    async def put_part(self, digest: str, data: bytes) -> None:
        self.parts[digest] = data

    async def part(self, digest: str) -> bytes:
        self.reads += 1
        if digest not in self.parts:
            raise NotFound("UPLOAD_INCOMPLETE", digest)
        return self.parts[digest]

    async def delete_parts(self, digests: Iterable[str]) -> None:
        for digest in digests:
            self.parts.pop(digest, None)

    async def put_entry(self, upload: Upload) -> None:
        self.uploads.setdefault(upload.id, upload)

    async def entry(self, upload_id: str) -> Upload:
        if upload_id not in self.uploads:
            raise NotFound("UNKNOWN_UPLOAD", upload_id)
        return self.uploads[upload_id]

    async def entries(self) -> list[Upload]:
        return list(self.uploads.values())

    async def delete_entry(self, upload_id: str) -> None:
        self.uploads.pop(upload_id, None)


def part(data: bytes) -> UploadPart:
    return UploadPart(sha256=digest_of(data), data=data)


def pieces(data: bytes) -> list[bytes]:
    return [data[start : start + PART_BYTES] for start in range(0, len(data), PART_BYTES)]


def uploaded(name: str, data: bytes) -> UploadedFile:
    """What a manifest says of a file."""
    parts = tuple(map(digest_of, pieces(data))) if len(data) > PART_BYTES else ()
    return UploadedFile(name=name, size=len(data), sha256=digest_of(data), parts=parts)


async def put_manifest(receiver: UploadReceiver, manifest: bytes, name: str = "") -> Upload:
    """Send a manifest and list its upload."""
    await receiver.put_parts(list(map(part, pieces(manifest))))
    digests = list(map(digest_of, pieces(manifest)))
    return await receiver.put_upload(PutUploadRequest(id=digest_of(manifest), name=name, manifest_parts=digests))


async def put_files(receiver: UploadReceiver, files: dict[str, bytes], name: str = "") -> Upload:
    """Send files whole, and list them as an upload."""
    for data in files.values():
        await receiver.put_parts(list(map(part, pieces(data))))
    return await put_manifest(receiver, write_manifest(uploaded(*each) for each in files.items()), name)
