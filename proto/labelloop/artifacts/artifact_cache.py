"""Cache artifacts on the local disk and map them into memory."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from labelloop.artifacts.cache_folder import CacheFolder
from labelloop.artifacts.mapped_files import Bytes
from labelloop.artifacts.store import ArtifactStore
from labelloop.runtime.threads import in_thread


class ArtifactCache:
    """The most recently used artifacts, in files under ``folder`` named by digest, up to ``bytes_max`` in all."""

    def __init__(self, store: ArtifactStore, folder: Path, bytes_max: int) -> None:
        self._store, self._folder = store, CacheFolder(folder, bytes_max)
        self.bytes_max = bytes_max

    def holds(self, digest: str) -> bool:
        """Return whether the folder has a copy of the artifact, intact or not."""
        return self._folder.holds(digest)

    async def map(self, digest: str) -> Bytes:
        """Map the bytes of an artifact, ``[size]``, fetching it from the store if the folder lacks an intact copy.

        NotFound and Corrupt as the store raises them; Unready if the folder cannot hold the artifact.
        """
        mapped = await in_thread(None, self._folder.mapped, digest, lambda data: _is(data, digest))
        if mapped is None:
            data = await self._store.get(digest)
            mapped = await in_thread(None, self._folder.keep, digest, len(data), lambda draft: _written(draft, data))
        return mapped

    async def held(self, digests: Sequence[str]) -> list[bool]:
        """Return for each artifact whether the folder has a file of it. Its bytes are not looked at."""
        return await in_thread(None, lambda: [self._folder.has(digest) for digest in digests])


def _is(data: Bytes, digest: str) -> bool:
    return sha256(data.data).hexdigest() == digest


def _written(path: Path, data: bytes) -> None:
    path.write_bytes(data)
