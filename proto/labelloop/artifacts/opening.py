"""Open the artifact store that the settings name, and wait until it can be used."""

from __future__ import annotations

import structlog
from nats.aio.client import Client
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type

from labelloop.artifacts.fsspec_store import FsspecArtifacts
from labelloop.artifacts.store import JETSTREAM, ArtifactStore, ErasableStore, JetStreamArtifacts
from labelloop.errors import Unready
from labelloop.runtime.backoff import Backoff

_BACKOFF = Backoff(0.5, 5.0, jitter_s=0.5)

log = structlog.get_logger()


def open_store(url: str, client: Client, replicas: int = 1) -> ErasableStore:
    """Open the store at ``url``: ``jetstream:`` for the broker's own, on ``replicas`` nodes, or any fsspec URL."""
    return JetStreamArtifacts(client, replicas) if url == JETSTREAM else FsspecArtifacts(url)


async def wait_until_usable(store: ArtifactStore, *, writing: bool) -> None:
    """Return once ``store`` can be read and, if ``writing``, written to, however long it does not answer.

    The broker's own needs no check: services wait for the broker when they connect.

    Raises:
        InvalidInput: If it cannot be used as the settings name it.
    """
    if not isinstance(store, FsspecArtifacts):
        return

    def tell(state: RetryCallState) -> None:
        if state.attempt_number == 1 and state.outcome:  # one line per outage
            log.warning("artifact_store_unreachable", error=str(state.outcome.exception()))

    tries = AsyncRetrying(retry=retry_if_exception_type(Unready), wait=_BACKOFF, before_sleep=tell, reraise=True)
    await tries(store.check, writing=writing)
    if tries.statistics["attempt_number"] > 1:
        log.info("artifact_store_reachable")
