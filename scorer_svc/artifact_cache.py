"""Artifacts on the local disk, mapped into memory."""

from __future__ import annotations

import asyncio
from hashlib import sha256
from pathlib import Path

from labelloop.wire.artifacts import ArtifactStore

from scorer_svc.cache_folder import Bytes, CacheFolder


class ArtifactCache:
    """Files under ``folder`` named by their digests, those used last, up to ``bytes_max`` in all."""

    def __init__(self, store: ArtifactStore, folder: Path, bytes_max: int) -> None:
        self._store, self._folder = store, CacheFolder(folder, bytes_max)

    async def map(self, digest: str) -> Bytes:
        """The bytes of an artifact, ``[size]``, from the store where the folder does not hold them whole.

        NotFound and Corrupt as the store says; Unready where the folder cannot take them.
        """
        mapped = await asyncio.to_thread(self._folder.mapped, digest, lambda data: _is(data, digest))
        if mapped is None:
            data = await self._store.get(digest)
            mapped = await asyncio.to_thread(self._folder.keep, digest, len(data), lambda draft: _written(draft, data))
        return mapped


def _is(data: Bytes, digest: str) -> bool:
    return sha256(data.data).hexdigest() == digest


def _written(path: Path, data: bytes) -> None:
    path.write_bytes(data)
