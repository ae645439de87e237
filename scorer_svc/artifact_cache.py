"""Artifacts on the local disk, mapped into memory: one copy for all processes of a machine."""

from __future__ import annotations

import asyncio
import mmap
import os
import secrets
from hashlib import sha256
from pathlib import Path

import numpy as np
from labelloop.wire.artifacts import ArtifactStore
from labelloop.wire.errors import Unready
from numpy.typing import NDArray


class ArtifactCache:
    """Files under ``folder`` named by their digests, those used last, up to ``bytes_max`` in all."""

    def __init__(self, store: ArtifactStore, folder: Path, bytes_max: int) -> None:
        self._store, self._folder, self._bytes_max = store, folder, bytes_max

    async def map(self, digest: str) -> NDArray[np.uint8]:
        """The bytes of an artifact, ``[size]``, from the store where the folder does not hold them whole.

        NotFound and Corrupt as the store says; Unready where the folder cannot take them.
        """
        mapped = await asyncio.to_thread(self._mapped, digest)
        if mapped is None:
            data = await self._store.get(digest)
            mapped = await asyncio.to_thread(self._keep, digest, data)
        return mapped

    def _mapped(self, digest: str) -> NDArray[np.uint8] | None:
        """None where there is no such file, or where it holds something else."""
        path = self._folder / digest
        try:
            mapped = _map(path)
        except (OSError, ValueError):  # absent, unreadable or empty
            return None
        if sha256(mapped.data).hexdigest() != digest:
            return None
        os.utime(path)
        return mapped

    def _keep(self, digest: str, data: bytes) -> NDArray[np.uint8]:
        path = self._folder / digest
        draft = path.with_suffix(f".{secrets.token_hex(4)}.draft")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._make_room(len(data))
            try:
                draft.write_bytes(data)
                draft.replace(path)  # whoever maps it sees all of it or none
            finally:
                draft.unlink(missing_ok=True)
            return _map(path)
        except OSError as error:
            message = (
                f"the cache in {self._folder} fails: {error}; mend that, or set LABELLOOP_CACHE_DIR to another folder"
            )
            raise Unready("CACHE_FAILS", message, retry_after_s=1, folder=self._folder) from error

    def _make_room(self, bytes_more: int) -> None:
        """Remove what was used longest ago. Whoever has it mapped keeps it until he lets go."""
        files = sorted(((path.stat(), path) for path in self._folder.iterdir()), key=lambda file: file[0].st_mtime)
        excess = sum(stat.st_size for stat, _ in files) + bytes_more - self._bytes_max
        for stat, path in files:
            if excess <= 0:
                break
            path.unlink(missing_ok=True)
            excess -= stat.st_size


def _map(path: Path) -> NDArray[np.uint8]:
    """Populated at once: a first pass over it takes no faults."""
    with path.open("rb") as file:
        return np.frombuffer(mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED | mmap.MAP_POPULATE, mmap.PROT_READ), np.uint8)
