"""Copy remote files into a folder, block by block."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

from labelloop.domain.abandonment import passed_on, wanted
from labelloop.domain.remote_urls import RemoteUrl
from labelloop.errors import LabelloopError, LimitExceeded

from oracle_svc.folder_cache import FolderCache, make_folders
from oracle_svc.remote.objects import RemoteObject, Source, content_key, key_of

_FILES_AT_ONCE, _FILES_OF_TASK = 8, 16
_UNKNOWN_BYTES = 64 * 2**20  # room made at a time for a file of unknown size


class Changed(Exception):  # not an error: the files are read again
    """Files changed while they were read."""


def copied(url: RemoteUrl, objects: Sequence[RemoteObject], source: Source, cache: FolderCache, until: float) -> Path:
    """Copy ``objects`` into a folder of ``cache``, and return that.

    Raises:
        Changed: If a file is no longer the one that was listed.
        LimitExceeded: If it is not done at the time ``until`` of ``time.monotonic``, or if there is no room.
        Unready: If there is no room now, or the disk fails.
    """
    cache.make_room(sum(max(each.size, 0) for each in objects))
    key = key_of(url, objects)
    draft = cache.draft(key or content_key(url, ""))
    try:
        make_folders(draft, [each.name for each in objects])
        digests = _written(draft, url, objects, source, cache, until)
        if source.listed(url) != objects:
            raise Changed
        return cache.keep(draft, key or content_key(url, " ".join(digests)))
    finally:
        cache.drop(draft)


def _written(
    draft: Path, url: RemoteUrl, objects: Sequence[RemoteObject], source: Source, cache: FolderCache, until: float
) -> list[str]:
    """Write all files, several at once, and return the digest of each."""

    def several(start: int) -> list[str]:
        some = objects[start : start + _FILES_OF_TASK]
        return [_write(draft / each.name, url, each, source, cache, until) for each in some]

    try:
        with ThreadPoolExecutor(_FILES_AT_ONCE) as threads:
            starts = range(0, len(objects), _FILES_OF_TASK)
            return [digest for digests in threads.map(passed_on(several), starts) for digest in digests]
    except (Changed, LabelloopError):
        raise
    except Exception as error:  # for instance of a file that became shorter
        if source.listed(url) != objects:
            raise Changed from error
        raise


def _write(path: Path, url: RemoteUrl, each: RemoteObject, source: Source, cache: FolderCache, until: float) -> str:
    """Write one file, and return the digest of its content."""
    hashed, size, room = sha256(), 0, max(each.size, 0)
    with cache.failing():
        path.touch()
    for block in wanted(source.blocks(url, each)):
        size += len(block)
        if size > each.size >= 0:
            raise Changed
        if size > room:
            cache.make_room(_UNKNOWN_BYTES)
            room = size + _UNKNOWN_BYTES
        if time.monotonic() > until:
            raise LimitExceeded("REMOTE_TOO_SLOW", f"{str(url)!r} takes more than an hour to read: copy it nearer")
        with cache.failing(), path.open("ab") as file:
            file.write(block)
        hashed.update(block)
    if size != each.size >= 0:
        raise Changed
    return hashed.hexdigest()
