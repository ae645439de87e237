"""Check the artifacts of an import as they come: each must be named by what came before it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from hashlib import sha256

from labelloop.artifacts.named_artifacts import Named, named_by_artifact
from labelloop.artifacts.store import ArtifactStore
from labelloop.errors import LabelloopError, LimitExceeded, NotFound
from labelloop.trainer.v1.trainer_pb2 import ArtifactPiece

from trainer_svc.imports.faults import bad
from trainer_svc.imports.spool import Place, Spool

_BYTES_MAX = 1024 * 1024 * 1024
_LIST_BYTES_MAX = 64 * 1024 * 1024  # an index of 60,000 samples with names of 200 characters has 20 MB


class IncomingArtifacts:
    """The artifacts of an import, checked and kept on disk."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._named: dict[str, Named] = {}
        self._places: dict[str, Place] = {}
        self._digest = ""
        self._begin = self._size = 0
        self._sha256 = sha256()

    def expect(self, named: Iterable[Named]) -> None:
        """Allow artifacts that a checked event, manifest or index names."""
        for each in named:
            if each.names_others or each.sha256 not in self._named:
                self._named[each.sha256] = each

    async def take(self, piece: ArtifactPiece) -> None:
        """Take the next piece.

        Raises:
            InvalidInput: If nothing named its artifact, or that has other bytes.
            LimitExceeded: If its artifact is too large.
        """
        if not self._digest:
            self._start(piece.sha256)
        if piece.sha256 != self._digest:
            raise bad(f"artifact {self._digest} is cut short", "artifact")
        if not piece.data and not piece.last:
            raise bad(f"a piece of artifact {self._digest} is empty", "artifact")
        most = _LIST_BYTES_MAX if self._named[self._digest].names_others else _BYTES_MAX
        if self._size + len(piece.data) > most:
            message = f"artifact {self._digest} has more than {most:,} bytes, which is more than an import may have"
            raise LimitExceeded("ARTIFACT_TOO_LARGE", message, field="artifact", most=most)
        self._size += len(piece.data)
        await asyncio.to_thread(self._keep, piece.data)
        if piece.last:
            await self._end()

    def _start(self, digest: str) -> None:
        if digest not in self._named:
            message = f"no event, manifest or index before artifact {digest[:64]!r} names it"
            raise bad(message, "artifact")
        if digest in self._places:
            raise bad(f"artifact {digest} is there twice", "artifact")
        self._digest, self._begin, self._size, self._sha256 = digest, self._spool.size, 0, sha256()

    def _keep(self, data: bytes) -> None:
        self._spool.add(data)
        self._sha256.update(data)

    async def _end(self) -> None:
        digest, self._digest = self._digest, ""
        if self._sha256.hexdigest() != digest:
            raise bad(f"artifact {digest} holds other bytes", "artifact")
        self._places[digest] = Place(self._begin, self._size)
        if self._named[digest].names_others:
            await self._expect_named_by(digest, await asyncio.to_thread(self._spool.read, self._places[digest]))

    async def _expect_named_by(self, digest: str, data: bytes) -> None:
        try:
            self.expect(await asyncio.to_thread(lambda: list(named_by_artifact(self._named[digest], data))))
        except LabelloopError as error:
            raise bad(f"artifact {digest}: {error.message}", "artifact") from error

    async def check_complete(self, artifacts: ArtifactStore) -> None:
        """Raise InvalidInput unless each artifact that is named was sent or is in the store already."""
        if self._digest:
            raise bad(f"artifact {self._digest} is cut short", "artifact")
        looked_at: set[str] = set()
        while missing := self._named.keys() - self._places.keys() - looked_at:
            for digest in missing:
                looked_at.add(digest)
                try:
                    data = await artifacts.get(digest)
                except NotFound as error:
                    raise bad(f"artifact {digest}, which it names, is missing", "artifact") from error
                if self._named[digest].names_others:
                    await self._expect_named_by(digest, data)

    async def sent(self) -> AsyncIterator[bytes]:
        """Yield each artifact that was sent."""
        for place in self._places.values():
            yield await asyncio.to_thread(self._spool.read, place)
