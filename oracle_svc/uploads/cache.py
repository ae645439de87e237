"""Provide the files of uploads in a folder, from which datasets are read."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from labelloop.artifacts.upload_manifest import UploadedFile
from labelloop.errors import Corrupt, NotFound
from labelloop.oracle.v1.oracle_pb2 import Upload

from oracle_svc.folder_cache import FolderCache, make_folders
from oracle_svc.uploads.receiver import read_files
from oracle_svc.uploads.references import parsed
from oracle_svc.uploads.store import UploadStore

_AT_ONCE = 16  # files


class UploadCache:
    """The most recently used uploads, in folders of ``cache`` named by their ids.

    A folder appears once all its files are there and have been checked against their digests.
    """

    def __init__(self, store: UploadStore, cache: FolderCache) -> None:
        self._store, self._cache = store, cache
        self._one_at_a_time: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    @property
    def folder(self) -> Path:
        """The folder below which all paths are."""
        return self._cache.folder

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
        try:
            folder = await asyncio.to_thread(self._cache.used, upload_id)
            if folder is None:
                upload = await self._store.entry(upload_id)
                async with self._one_at_a_time[upload_id]:
                    folder = await asyncio.to_thread(self._cache.used, upload_id) or await self._fetched(upload)
            return await asyncio.to_thread(_inside, folder, name, reference, field)
        except OSError as error:
            raise self._cache.failed(error) from error

    async def _fetched(self, upload: Upload) -> Path:
        files = await read_files(self._store, upload.id, upload.manifest_parts)
        await asyncio.to_thread(self._cache.make_room, sum(file.size for file in files))
        draft = await asyncio.to_thread(self._cache.draft, upload.id)
        try:
            await asyncio.to_thread(make_folders, draft, [file.name for file in files])
            for start in range(0, len(files), _AT_ONCE):
                await self._write_all(draft, files[start : start + _AT_ONCE])
            return await asyncio.to_thread(self._cache.keep, draft, upload.id)
        finally:
            await asyncio.to_thread(self._cache.drop, draft)

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


def _inside(folder: Path, name: str, reference: str, field: str) -> Path:
    """Return the path ``name`` below ``folder``; without a name its only entry, or itself if it has several."""
    if not name:
        entries = list(folder.iterdir())
        return entries[0] if len(entries) == 1 else folder
    if not (folder / name).exists():
        message = f"{field}: the upload has no file or folder {name!r}: correct the name in {reference!r}"
        raise NotFound("NO_SUCH_FILE", message, field=field, name=name)
    return folder / name


def _append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)
