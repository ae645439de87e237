"""Pools published to a folder, as an oracle would publish them."""

from __future__ import annotations

from pathlib import Path

from labelloop.artifacts.fsspec_store import FsspecArtifacts
from labelloop.events.v1.events_pb2 import DatasetSource, PoolPublished

from oracle_svc.datasets.cache import DatasetCache
from oracle_svc.datasets.places import Places
from oracle_svc.datasets.publisher import publish


def artifacts_in(folder: Path) -> FsspecArtifacts:
    """The artifact store below ``folder``."""
    return FsspecArtifacts(f"file://{folder}/artifacts")


async def published(source: DatasetSource, folder: Path) -> PoolPublished:
    """Read a dataset and publish it below ``folder``."""
    return await publish(await DatasetCache(None, folder, Places(folder)).get(source), artifacts_in(folder))
