"""Find all artifacts that events name, directly or through others."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable

from labelloop.artifacts.named_artifacts import Named, named_by_artifact
from labelloop.artifacts.store import ArtifactStore
from labelloop.errors import Corrupt, LabelloopError, NotFound


async def all_named(
    store: ArtifactStore,
    named: Iterable[Named],
    known: dict[str, Named] | None = None,
    lost: dict[str, LabelloopError] | None = None,
) -> dict[str, Named]:
    """Return the artifacts ``named`` and those that their manifests and indexes name, each after the first naming it.

    Args:
        store: Where manifests and indexes are read from.
        named: Where to begin.
        known: The result of an earlier call, to add to.
        lost: Where to add the manifests and indexes that cannot be read, by digest, instead of raising an error.

    Raises:
        NotFound: If a manifest or an index is missing.
        Corrupt: If one is damaged, or another artifact.
    """
    waiting, seen = deque(named), {} if known is None else known
    while waiting:
        each = waiting.popleft()
        if each.sha256 in seen and (not each.names_others or seen[each.sha256].names_others):
            continue
        if each.names_others:
            waiting.extend(await _named_by(store, each, lost))
        seen[each.sha256] = each
    return seen


async def _named_by(store: ArtifactStore, named: Named, lost: dict[str, LabelloopError] | None) -> list[Named]:
    try:
        data = await store.get(named.sha256)
        return await asyncio.to_thread(lambda: list(named_by_artifact(named, data)))
    except (NotFound, Corrupt) as error:
        if lost is None:
            raise
        lost[named.sha256] = error
        return []
