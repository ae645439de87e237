"""Send an exported run to the trainer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator

import grpc
from labelloop.artifacts.formats import PoolManifest
from labelloop.errors import Corrupt, Unready, from_rpc
from labelloop.events.v1.events_pb2 import Event
from labelloop.runtime.backoff import Backoff
from labelloop.trainer.v1.trainer_pb2 import ImportRunRequest, RunStatus

from labelloop_cli.clients import Clients
from labelloop_cli.ledger.members import bad_archive
from labelloop_cli.ledger.reading import Ledger

_BACKOFF = Backoff(1.0, 10.0)


class Parts:
    """The parts of an import, in the order in which the trainer checks them.

    Attributes:
        error: Why they came to no end; None if they did, or were not all asked for. gRPC only cancels the call.
    """

    def __init__(self, ledger: Ledger, run_id: str) -> None:
        self._ledger, self._run_id = ledger, run_id
        self.error: Exception | None = None

    async def sent(self) -> AsyncIterator[ImportRunRequest]:
        """Yield the parts; the loop may do other work between them."""
        try:
            for part in self._all():
                yield part
                await asyncio.sleep(0)
        except Exception as error:
            self.error = error
            raise

    def _all(self) -> Iterator[ImportRunRequest]:
        manifests: dict[str, None] = {}
        for event in self._ledger.events():
            event.run_id = self._run_id or event.run_id
            manifests.update(dict.fromkeys(_manifests(event)))
            yield ImportRunRequest(event=event)
        there = self._ledger.artifacts()
        lists = [digest for digest in manifests if digest in there]
        for digest in lists:
            yield from self._artifact(digest)
        indexes = {index for digest in lists for index in self._indexes(digest)}
        others = [digest for digest in there if digest not in manifests]
        for digest in sorted(others, key=lambda digest: digest not in indexes):
            yield from self._artifact(digest)

    def _artifact(self, digest: str) -> Iterator[ImportRunRequest]:
        return (ImportRunRequest(artifact=piece) for piece in self._ledger.pieces(digest))

    def _indexes(self, digest: str) -> list[str]:
        try:
            manifest = PoolManifest.from_bytes(self._ledger.whole(digest))
        except Corrupt as error:
            raise bad_archive(f"artifact {digest}: {error.message}") from error
        return [shard.index for shard in manifest.shards if shard.index]


def _manifests(event: Event) -> list[str]:
    pool = event.pool_published
    return [digest for digest in (pool.pool_sha256, pool.shown.pool_sha256) if digest]


async def send(clients: Clients, ledger: Ledger, run_id: str, limit_s: float, tell: Callable[[str], None]) -> RunStatus:
    """Send a run and return it as it stands then. While another import is under way, try again.

    Args:
        clients: The services.
        ledger: The run.
        run_id: Its id; empty for the one that it had.
        limit_s: For how many seconds to try again.
        tell: Called with a sentence when a wait begins.
    """
    began_s, tries = time.monotonic(), 0
    while True:
        parts = Parts(ledger, run_id)
        try:
            return (await clients.trainer.ImportRun(parts.sent())).run
        except asyncio.CancelledError:
            if parts.error:
                raise parts.error from None
            raise
        except grpc.aio.AioRpcError as error:
            ours, tries = from_rpc(error), tries + 1
            pause_s = _BACKOFF.pause_s(tries)
            late = time.monotonic() - began_s + pause_s > limit_s
            if not isinstance(ours, Unready) or ours.reason != "IMPORT_UNDER_WAY" or late:
                raise
            if tries == 1:
                tell(f"{ours.message}; trying again for {limit_s:.0f} s")
            await asyncio.sleep(pause_s)
