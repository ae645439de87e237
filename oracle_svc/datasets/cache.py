"""Read datasets when they are asked for, and keep those whose files have not changed since."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from labelloop.domain.remote_urls import SETTING, is_remote
from labelloop.errors import InvalidInput, LabelloopError, Unready
from labelloop.events.v1.events_pb2 import DatasetSource as SourceMessage
from labelloop.runtime.async_cache import AsyncCache
from labelloop.runtime.threads import in_thread

from oracle_svc.datasets import PATHS, Dataset, load
from oracle_svc.datasets.closer_look import with_closer_look
from oracle_svc.datasets.dataset import DatasetSource
from oracle_svc.datasets.fingerprint import Fingerprint, fingerprint
from oracle_svc.datasets.limit import limited
from oracle_svc.datasets.mnist_files import in_data_dir
from oracle_svc.datasets.places import Places
from oracle_svc.datasets.scan import identified
from oracle_svc.remote.cache import RemoteCache
from oracle_svc.uploads.cache import UploadCache
from oracle_svc.uploads.references import is_reference

T = TypeVar("T")

_KEPT = 4
_READS = 5  # of files that change while they are read


class _Key(NamedTuple):
    """A source, and the files that it names as they are now.

    Attributes:
        reading: Tells apart two readings of files that may change without a trace; 0 if they cannot.
    """

    source: bytes
    files: bytes
    reading: int


class _Changed(Exception):  # not an error: the files are read again
    """The files changed while they were read."""


class DatasetCache:
    """Reads datasets, and reads them again when their files have changed."""

    def __init__(
        self,
        data_dir: Path | None,
        cache_dir: Path,
        places: Places,
        uploads: UploadCache | None = None,
        remote: RemoteCache | None = None,
    ) -> None:
        self._data_dir, self._cache_dir, self._places = data_dir, cache_dir, places
        self._uploads, self._remote = uploads, remote
        self._datasets: AsyncCache[_Key, Dataset] = AsyncCache(self._load, kept=_KEPT)
        self._readings = count(1)

    async def get(self, source: SourceMessage) -> Dataset:
        """Return the dataset as its files are now, truncated to the source's sample limit.

        Raises a LabelloopError if it cannot be read; Unready if its files change all the time.
        """
        # Paths first: whether an upload exists is not told to those whose paths are refused.
        fetched = await self._fetched(await asyncio.to_thread(self._located, source))
        copies = {getattr(fetched, each): getattr(source, each) for each in PATHS if _is_copied(getattr(source, each))}
        with _origins_named(copies):
            return _with_origins(await self._read_unchanged(fetched), copies)

    def _located(self, source: SourceMessage) -> SourceMessage:
        """Return the source with the paths on this machine that may be read. Raises InvalidInput for others."""
        own = _without_copies(_named(source))
        found = _with_field(lambda: self._places.located(own))
        located = SourceMessage()
        located.CopyFrom(source)
        for field in PATHS:
            if text := getattr(found, field):
                setattr(located, field, text)
        return located

    async def _read_unchanged(self, source: SourceMessage) -> Dataset:
        named = _named(source)
        key = source.SerializeToString(deterministic=True)
        for _ in range(_READS):
            files = await in_thread(None, self._fingerprint, named)
            reading = 0 if files.is_settled(time.time()) else next(self._readings)
            try:
                return await self._datasets.get(_Key(key, files.digest, reading))
            except _Changed:
                continue
        message = f"the files of {source.name} change while they are read: start the run once they are complete"
        raise Unready("DATASET_CHANGING", message, retry_after_s=1, field="dataset.name", name=source.name)

    async def _fetched(self, source: SourceMessage) -> SourceMessage:
        """Return the source with the paths of copies in place of references to uploads, and of URLs."""
        fetched = SourceMessage()
        fetched.CopyFrom(source)
        for field in PATHS:
            if _is_copied(text := getattr(source, field)):
                copy = await _awaited_with_field(self._path(text, field))
                setattr(fetched, field, str(await asyncio.to_thread(copy.resolve)))
        return fetched

    async def _path(self, reference: str, field: str) -> Path:
        if is_remote(reference):
            return await self._remote_path(reference, field)
        if self._uploads is None:
            message = f"{field}: {reference!r} names an upload, but this oracle has none"
            raise InvalidInput("NO_UPLOADS", message, field=field)
        return await self._uploads.path(reference, field)

    async def _remote_path(self, url: str, field: str) -> Path:
        if self._remote is None:
            message = f"{field}: {url!r} is a URL, but this oracle reads none: ask its operator to set {SETTING}"
            raise InvalidInput("REMOTE_NOT_ALLOWED", message, field=field, url=url)
        return await self._remote.path(url, field)

    async def _load(self, key: _Key) -> Dataset:
        source = SourceMessage.FromString(key.source)
        try:
            dataset: Dataset = await in_thread(None, _with_field, lambda: self._read(source))
        except LabelloopError as error:
            if error.reason == "DATASET_CHANGED":
                raise _Changed from error
            raise
        if (await in_thread(None, self._fingerprint, _named(source))).digest != key.files:
            raise _Changed
        return dataset

    def _fingerprint(self, named: DatasetSource) -> Fingerprint:
        paths = [Path(text) for text in (getattr(named, field) for field in PATHS) if text and text != "mnist"]
        if named.name == "mnist" and self._data_dir:
            paths += in_data_dir(self._data_dir)
        return fingerprint(paths)

    def _read(self, source: SourceMessage) -> Dataset:
        begin = time.perf_counter()
        whole = load(_named(source), data_dir=self._data_dir, cache_dir=self._cache_dir)
        dataset = with_closer_look(identified(limited(whole, source.sample_limit, source.limit_seed)))
        return replace(dataset, read_s=time.perf_counter() - begin)


def _with_field(work: Callable[[], T]) -> T:
    """Carry out ``work``; its errors name fields as requests do."""
    try:
        return work()
    except LabelloopError as error:
        _name_as_requests_do(error)
        raise


async def _awaited_with_field(work: Awaitable[T]) -> T:
    try:
        return await work
    except LabelloopError as error:
        _name_as_requests_do(error)
        raise


def _name_as_requests_do(error: LabelloopError) -> None:
    error.field = f"dataset.{error.field}" if error.field else ""


def _is_copied(path: str) -> bool:
    """Return whether ``path`` names what is not on this machine until it is copied."""
    return is_reference(path) or is_remote(path)


def _without_copies(named: DatasetSource) -> DatasetSource:
    """Return the source with only those paths that lie on this machine."""
    cleared: dict[str, Any] = {field: "" for field in PATHS if _is_copied(getattr(named, field))}
    return replace(named, **cleared)


@contextmanager
def _origins_named(copies: Mapping[str, str]) -> Iterator[None]:
    """Name in errors what was copied, in place of the copy."""
    try:
        yield
    except LabelloopError as error:
        error.message = _with_texts(error.message, copies)
        error.args = (error.message,)
        raise


def _with_origins(dataset: Dataset, copies: Mapping[str, str]) -> Dataset:
    """Name in notes what was copied, in place of the copy."""
    notes = tuple(_with_texts(note, copies) for note in dataset.notes)
    return dataset if notes == dataset.notes else replace(dataset, notes=notes)


def _with_texts(text: str, copies: Mapping[str, str]) -> str:
    for copy in sorted(copies, key=len, reverse=True):  # one may be the folder of another
        text = text.replace(copy, copies[copy])
    return text


def _named(source: SourceMessage) -> DatasetSource:
    return DatasetSource(
        name=source.name,
        labels=source.labels,
        evaluation=source.evaluation,
        evaluation_labels=source.evaluation_labels,
        classes=tuple(source.classes),
        graph=source.graph,
        size=source.size,
        fit=source.fit,
        background=source.background,
        skip_bad=source.skip_bad,
        id_column=source.id_column,
        label_column=source.label_column,
        text_column=source.text_column,
        columns=tuple(source.columns),
        embeddings=source.embeddings,
        evaluation_embeddings=source.evaluation_embeddings,
    )
