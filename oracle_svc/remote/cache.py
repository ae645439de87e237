"""Provide remote files in a folder, from which datasets are read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from weakref import WeakValueDictionary

from labelloop.domain.remote_urls import RemoteUrl, allowed_url
from labelloop.errors import LabelloopError, Unready
from labelloop.runtime.threads import in_thread

from oracle_svc.folder_cache import FolderCache
from oracle_svc.remote.copying import Changed, copied
from oracle_svc.remote.faults import fault_of
from oracle_svc.remote.objects import Source, checked, key_of

_TRIES = 3  # of files that change while they are read
_URLS_AT_ONCE = 4
_FETCH_S = 3_600.0


class RemoteCache:
    """Copies of the most recently used remote files, in folders of ``cache`` named by URL and version.

    Args:
        cache: Where the copies are.
        prefixes: What may be read; nothing if empty.
        source_of: Returns where files below a URL come from; raises InvalidInput if its library is missing.
    """

    def __init__(
        self, cache: FolderCache, prefixes: Sequence[RemoteUrl], source_of: Callable[[RemoteUrl, str], Source]
    ) -> None:
        self._cache, self._prefixes, self._source_of = cache, prefixes, source_of
        self._threads = ThreadPoolExecutor(_URLS_AT_ONCE, "remote")  # of its own: a copy may take an hour
        self._one_at_a_time: WeakValueDictionary[RemoteUrl, asyncio.Lock] = WeakValueDictionary()

    @property
    def folder(self) -> Path:
        """The folder below which all paths are."""
        return self._cache.folder

    async def path(self, text: str, field: str) -> Path:
        """Return the path of a copy of the file, or of the files, at the URL ``text``, as they are now.

        Raises:
            InvalidInput: If the URL may not be read, or a file cannot be copied.
            NotFound: If nothing is there.
            NotAllowed: If the oracle's credentials are refused, or a redirect leads elsewhere.
            LimitExceeded: If there are too many files, or more bytes than the cache may hold.
            Unready: If the store does not answer, files change all the time, or there is no room now.
        """
        url = allowed_url(text, self._prefixes, field)
        async with self._one_at_a_time.setdefault(url, asyncio.Lock()):
            return await in_thread(self._threads, self._copy, url, field)

    def _copy(self, url: RemoteUrl, field: str) -> Path:
        try:
            source = self._source_of(url, field)
            for _ in range(_TRIES):
                try:
                    return self._newest(url, source)
                except Changed:
                    continue
        except LabelloopError as error:
            _name_field(error, field)
            raise
        except Exception as error:
            if (fault := fault_of(error, url)) is None:
                raise
            _name_field(fault, field)
            raise fault from error
        message = f"{field}: {str(url)!r} changes while it is read: start the run once it is complete"
        raise Unready("DATASET_CHANGING", message, retry_after_s=1, field=field, url=url)

    def _newest(self, url: RemoteUrl, source: Source) -> Path:
        objects = source.listed(url)
        key = key_of(url, objects)
        kept = self._cache.used(key) if key else None
        if kept is None:
            checked(url, objects)
        folder = kept or copied(url, objects, source, self._cache, time.monotonic() + _FETCH_S)
        return folder / url.name


def _name_field(error: LabelloopError, field: str) -> None:
    if not error.field:
        error.field, error.message = field, f"{field}: {error.message}"
        error.args = (error.message,)
