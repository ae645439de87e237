"""Provide the files of uploads in a folder, from which datasets are read."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from labelloop.artifacts.upload_manifest import UploadedFile, folders_of
from labelloop.errors import Corrupt, LimitExceeded, NotFound, Unready
from labelloop.oracle.v1.oracle_pb2 import Upload

from oracle_svc.uploads.receiver import read_files
from oracle_svc.uploads.references import parsed
from oracle_svc.uploads.store import UploadStore

_AT_ONCE = 16  # files
_IN_USE_S = 3_600.0  # after its last use, an upload may still be read, and a draft be written
_RETRY_S = 30.0


class UploadCache:
    """The most recently used uploads, in folders named by their ids, up to ``bytes_max`` in all.

    A folder appears once all its files are there and have been checked against their digests.
    """

    def __init__(self, store: UploadStore, folder: Path, bytes_max: int) -> None:
        self._store, self.folder, self._bytes_max = store, folder, bytes_max
        self._one_at_a_time: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def path(self, reference: str, field: str) -> Path:
        """Return the path of the file or folder that ``reference`` names, fetching the upload if it is not here.

        Raises:
            InvalidInput: If it is no reference.
            NotFound: If there is no such upload, or no such file in it.
            Corrupt: If a file is not what the manifest says.
            LimitExceeded: If the upload is larger than the folder may become.
            Unready: If there is no room for it now, or the disk fails.
        """
        upload_id, name = parsed(reference, field)
        folder = self.folder / upload_id
        try:
            if not await asyncio.to_thread(_used, folder):
                upload = await self._store.entry(upload_id)
                async with self._one_at_a_time[upload_id]:
                    if not await asyncio.to_thread(_used, folder):
                        await self._fetch(upload, folder)
            return await asyncio.to_thread(_inside, folder, name, reference, field)
        except OSError as error:
            message = f"the cache in {self.folder} fails: {error}; mend that, or set LABELLOOP_CACHE_DIR to another"
            raise Unready("CACHE_FAILS", message, retry_after_s=_RETRY_S, folder=self.folder) from error

    async def _fetch(self, upload: Upload, folder: Path) -> None:
        files = await read_files(self._store, upload.id, upload.manifest_parts)
        await asyncio.to_thread(self._make_room, sum(file.size for file in files))
        draft = self.folder / f"{upload.id}.{secrets.token_hex(4)}.draft"
        try:
            await asyncio.to_thread(_make_folders, draft, files)
            for start in range(0, len(files), _AT_ONCE):
                await self._write_all(draft, files[start : start + _AT_ONCE])
            await asyncio.to_thread(_rename, draft, folder)
        finally:
            await asyncio.to_thread(shutil.rmtree, draft, ignore_errors=True)

    async def _write_all(self, draft: Path, files: Sequence[UploadedFile]) -> None:
        """Write files, and raise the first error once no other file is being written."""
        for result in await asyncio.gather(*(self._write(draft, file) for file in files), return_exceptions=True):
            if isinstance(result, BaseException):
                raise result

    async def _write(self, draft: Path, file: UploadedFile) -> None:
        """Write a file, part by part. Raises Corrupt if it is not what the manifest says."""
        path, hashed, size = draft / file.name, sha256(), 0
        await asyncio.to_thread(path.touch)
        for digest in file.part_digests:
            data = await self._store.part(digest)
            size += len(data)
            if size > file.size:
                break
            await asyncio.to_thread(_append, path, data)
            await asyncio.to_thread(hashed.update, data)
        if size != file.size or hashed.hexdigest() != file.sha256:
            message = (
                f"the parts of {file.name!r} are not the file of {file.size:,} bytes that was uploaded: push again"
            )
            raise Corrupt("UPLOAD_CORRUPT", message, name=file.name)

    def _make_room(self, bytes_more: int) -> None:
        """Remove the least recently used uploads, except those that may be in use."""
        if bytes_more > self._bytes_max:
            message = (
                f"the upload has {bytes_more:,} bytes, but this oracle keeps at most {self._bytes_max:,} of uploads on "
                "its disk: ask the operator to raise LABELLOOP_UPLOADS_CACHE_GB"
            )
            raise LimitExceeded("UPLOAD_TOO_LARGE", message, most=self._bytes_max)
        self.folder.mkdir(parents=True, exist_ok=True)
        found = sorted((path.stat().st_mtime, path, _size(path)) for path in self.folder.iterdir())
        excess = sum(size for _, _, size in found) + bytes_more - self._bytes_max
        for used_at, path, size in found:
            if excess <= 0:
                return
            if used_at < time.time() - _IN_USE_S:
                shutil.rmtree(path)
                excess -= size
        if excess > 0:
            message = (
                f"other uploads are in use, and this one does not fit beside them: wait, or ask the operator to raise "
                f"LABELLOOP_UPLOADS_CACHE_GB by {excess:,} bytes"
            )
            raise Unready("CACHE_FULL", message, retry_after_s=_RETRY_S)


def _used(folder: Path) -> bool:
    """Note that ``folder`` is used; return whether it is there."""
    try:
        os.utime(folder)
    except FileNotFoundError:
        return False
    return True


def _inside(folder: Path, name: str, reference: str, field: str) -> Path:
    """Return the path ``name`` below ``folder``; without a name its only entry, or itself if it has several."""
    if not name:
        entries = list(folder.iterdir())
        return entries[0] if len(entries) == 1 else folder
    if not (folder / name).exists():
        message = f"{field}: the upload has no file or folder {name!r}: correct the name in {reference!r}"
        raise NotFound("NO_SUCH_FILE", message, field=field, name=name)
    return folder / name


def _make_folders(draft: Path, files: Sequence[UploadedFile]) -> None:
    draft.mkdir(parents=True)
    for folder in sorted({folder for file in files for folder in folders_of(file.name)}):
        (draft / folder).mkdir()


def _append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def _rename(draft: Path, folder: Path) -> None:
    with suppress(OSError):
        draft.rename(folder)
    if not folder.is_dir():  # else another process was first: its files are the same
        draft.rename(folder)


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
