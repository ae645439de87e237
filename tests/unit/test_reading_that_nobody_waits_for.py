"""Reading a dataset ends when its last caller has left, and goes on for as long as one waits."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labelloop.domain.abandonment import Abandoned, Wanted, wanted
from labelloop.events.v1.events_pb2 import DatasetSource

from oracle_svc.datasets import parts
from oracle_svc.datasets.cache import DatasetCache
from oracle_svc.datasets.places import Places
from oracle_svc.datasets.threads import in_threads
from tests.patience import PATIENCE_S


class Slow:
    """Stands in for the parts of a dataset: each comes only after its callers were let go or have left."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.began, self.go, self.ended = threading.Event(), threading.Event(), threading.Event()
        self._wanted = wanted
        monkeypatch.setattr(parts, "wanted", self)

    def __call__(self, items: Any) -> Iterator[Any]:
        self.began.set()
        try:
            while not self.go.wait(0.001):
                list(self._wanted([None]))
        except Abandoned:
            self.ended.set()
            raise
        yield from items


@pytest.fixture
def source(tmp_path: Path) -> DatasetSource:
    rng = np.random.default_rng(0)
    np.save(tmp_path / "pool.npy", rng.integers(0, 256, (50, 8, 8)).astype(np.uint8))
    np.save(tmp_path / "labels.npy", rng.integers(0, 3, 50))
    return DatasetSource(name=str(tmp_path / "pool.npy"), labels=str(tmp_path / "labels.npy"))


async def test_reading_ends_with_its_last_caller(
    tmp_path: Path, source: DatasetSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, cache = Slow(monkeypatch), DatasetCache(None, tmp_path / "cache", Places(tmp_path))
    calls = [asyncio.create_task(cache.get(source)) for _ in range(2)]
    assert await asyncio.to_thread(slow.began.wait, PATIENCE_S)
    for call in calls:
        assert not slow.ended.is_set()
        call.cancel()
        await asyncio.wait([call])
    assert await asyncio.to_thread(slow.ended.wait, PATIENCE_S)
    slow.go.set()
    assert len((await cache.get(source)).samples) == 50


def test_items_are_left_out_once_nobody_waits() -> None:
    caller, taken = Wanted(), list[int]()

    def take(item: int) -> None:
        taken.append(item)
        caller.abandon()

    with pytest.raises(Abandoned):
        caller.run(in_threads, take, range(1_000), 1)
    assert len(taken) < 100, "at most one in each thread"
