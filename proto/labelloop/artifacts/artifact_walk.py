"""Find all artifacts that events name, directly or through others."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable

from labelloop.artifacts.named_artifacts import Named, named_by_artifact
from labelloop.artifacts.store import ArtifactStore
from labelloop.errors import NotFound


async def all_named(
    store: ArtifactStore, named: Iterable[Named], known: dict[str, Named] | None = None, *, may_lack: bool = False
) -> dict[str, Named]:
    """Return the artifacts ``named`` and those that their manifests and indexes name, each after the first naming it.

    Args:
        store: Where manifests and indexes are read from.
        named: Where to begin.
        known: The result of an earlier call, to add to.
        may_lack: Whether a manifest or an index that is missing names nothing.

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
            waiting.extend(await _named_by(store, each, may_lack=may_lack))
        seen[each.sha256] = each
    return seen


async def _named_by(store: ArtifactStore, named: Named, *, may_lack: bool) -> list[Named]:
    try:
        data = await store.get(named.sha256)
    except NotFound:
        if may_lack:
            return []
        raise
    return await asyncio.to_thread(lambda: list(named_by_artifact(named, data)))
