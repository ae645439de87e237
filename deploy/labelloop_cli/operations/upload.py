"""Upload pools, list uploads and remove them, for ``labelloop pool`` and ``labelloop run start``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, NamedTuple

from labelloop.artifacts.upload_manifest import PART_BYTES, PREFIX, write_manifest
from labelloop.domain.limits import TEXT_CHARACTERS_MAX
from labelloop.errors import LimitExceeded
from labelloop.oracle.v1 import oracle_pb2 as pb
from rich.filesize import decimal
from rich.progress import Progress

from labelloop_cli.operations.local_files import LocalFile, LocalPart, described, local_files, read_part
from labelloop_cli.output.console import tell
from labelloop_cli.output.transfer import transfer

if TYPE_CHECKING:
    from labelloop.oracle.v1.oracle_pb2_grpc import OracleServiceAsyncStub

_ASKED_AT_ONCE = 10_000  # digests in a request
_BYTES_AT_ONCE, _PARTS_AT_ONCE = 3 * 2**20, 1_000  # in a request; many proxies allow 4 MiB
_REQUESTS_AT_ONCE = 4


class _Prepared(NamedTuple):
    """What an upload consists of: its manifest, and all parts by digest, those of the manifest as bytes."""

    upload_id: str
    manifest: Sequence[bytes]
    parts: Mapping[str, LocalPart | bytes]


async def upload(oracle: OracleServiceAsyncStub, path: Path, name: str = "") -> tuple[pb.Upload, int]:
    """Upload a file or folder, and return its entry and how many bytes had to be sent.

    Parts that are stored already are not sent again, so that an interrupted upload goes on where it was.

    Raises:
        NotFound: If there is no such file or folder here.
        InvalidInput: If a file cannot be uploaded, or changes meanwhile.
        LimitExceeded: If the oracle takes no uploads, or not so much; before anything is sent.
    """
    listed = await oracle.ListUploads(pb.ListUploadsRequest())
    files, hidden = await asyncio.to_thread(local_files, path)
    if hidden:
        tell([f"{hidden:,} hidden files below {path} are not uploaded"])
    size = sum(file.size for file in files)
    _check_room(size, 0, listed.bytes_max)
    with transfer() as progress:
        prepared = await _read(files, progress, size)
        for standing in listed.uploads:
            if standing.id == prepared.upload_id:
                if name and standing.name != name:
                    tell([f"{path} was uploaded before, as {standing.name!r}, and keeps that name"])
                return standing, 0
        _check_room(size, sum(each.bytes for each in listed.uploads), listed.bytes_max)
        sent = await _send(oracle, prepared.parts, progress)
    manifest_parts = [_digest(part) for part in prepared.manifest]
    wanted = name or path.resolve().name[:TEXT_CHARACTERS_MAX]
    request = pb.PutUploadRequest(id=prepared.upload_id, name=wanted, manifest_parts=manifest_parts)
    return (await oracle.PutUpload(request)).upload, sent


def reference(upload: pb.Upload) -> str:
    """Return what a dataset names the upload by."""
    return f"{PREFIX}{upload.id}"


def _check_room(size: int, used: int, most: int) -> None:
    if not most:
        message = "the oracle takes no uploads: name a path on its machine, or ask the operator for LABELLOOP_UPLOAD_GB"
        raise LimitExceeded("UPLOADS_OFF", message)
    if used + size > most:
        others = f" and other uploads {decimal(used)}" if used else ""
        message = (
            f"this has {decimal(size)}{others}, but the oracle takes {decimal(most)} in all: remove uploads with "
            "`labelloop pool rm`, or ask the operator to raise LABELLOOP_UPLOAD_GB. Nothing was sent"
        )
        raise LimitExceeded("UPLOADS_FULL", message, most=most)


class _Stopped(Exception):
    """Nobody waits for the files any more."""


async def _read(files: Sequence[LocalFile], progress: Progress, size: int) -> _Prepared:
    """Read all files and describe them, in a thread that ends if the command is interrupted."""
    bar, stopped = progress.add_task("reading", total=size), Event()

    def advance(count: int) -> None:
        if stopped.is_set():
            raise _Stopped
        progress.advance(bar, count)

    try:
        return await asyncio.to_thread(_prepared, files, advance)
    finally:
        stopped.set()


def _prepared(files: Sequence[LocalFile], advance: Callable[[int], None]) -> _Prepared:
    found = []
    parts: dict[str, LocalPart | bytes] = {}
    for file in files:
        entry, own = described(file, advance)
        found.append(entry)
        parts.update((part.sha256, part) for part in own)
    manifest = write_manifest(found)
    pieces = [manifest[start : start + PART_BYTES] for start in range(0, len(manifest), PART_BYTES)]
    parts.update((_digest(piece), piece) for piece in pieces)
    return _Prepared(_digest(manifest), pieces, parts)


async def _send(oracle: OracleServiceAsyncStub, parts: Mapping[str, LocalPart | bytes], progress: Progress) -> int:
    """Send the parts that the oracle lacks, and return how many bytes they have."""
    lacking: set[str] = set()
    digests, bar = sorted(parts), progress.add_task("comparing", total=None)  # similar ones cost the oracle least
    for start in range(0, len(digests), _ASKED_AT_ONCE):
        request = pb.FindMissingPartsRequest(sha256=digests[start : start + _ASKED_AT_ONCE])
        lacking.update((await oracle.FindMissingParts(request)).missing)
    missing = [digest for digest in parts if digest in lacking]  # in the order of the files
    progress.update(bar, description="sending", total=sum(_size(parts[digest]) for digest in missing))
    batches = list(_batches([parts[digest] for digest in missing]))
    sent = 0
    for start in range(0, len(batches), _REQUESTS_AT_ONCE):
        together = batches[start : start + _REQUESTS_AT_ONCE]
        for count in await asyncio.gather(*(_put(oracle, batch) for batch in together)):
            progress.advance(bar, count)
            sent += count
    return sent


async def _put(oracle: OracleServiceAsyncStub, batch: Sequence[LocalPart | bytes]) -> int:
    data = await asyncio.to_thread(lambda: [_bytes(part) for part in batch])
    parts = [pb.UploadPart(sha256=_digest(each), data=each) for each in data]
    await oracle.PutParts(pb.PutPartsRequest(parts=parts))
    return sum(map(len, data))


def _batches(parts: Sequence[LocalPart | bytes]) -> Iterator[list[LocalPart | bytes]]:
    """Yield the parts in groups that fit into a request each."""
    batch: list[LocalPart | bytes] = []
    size = 0
    for part in parts:
        if batch and (size + _size(part) > _BYTES_AT_ONCE or len(batch) == _PARTS_AT_ONCE):
            yield batch
            batch, size = [], 0
        batch.append(part)
        size += _size(part)
    if batch:
        yield batch


def _digest(data: bytes) -> str:
    return sha256(data).hexdigest()


def _size(part: LocalPart | bytes) -> int:
    return len(part) if isinstance(part, bytes) else part.size


def _bytes(part: LocalPart | bytes) -> bytes:
    return part if isinstance(part, bytes) else read_part(part)
