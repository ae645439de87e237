"""The auto-labels that an audit allows: one ranking for all of them, and few bytes for each."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import numpy as np
from labelloop.events.v1.events_pb2 import PoolPublished, SamplesAutoLabelled
from pyroaring import BitMap

from tests.unused import UNUSED
from trainer_svc.domain.certified_labels import CertifiedLabels
from trainer_svc.run_cache import RunCache
from trainer_svc.scorers.columns import Columns

NOW = datetime(2026, 1, 1, tzinfo=UTC)
COUNT = 50


class Scorers:
    """Rank samples by descending id, and count rankings."""

    def __init__(self) -> None:
        self.asked = 0

    async def rank_all(
        self, pool: str, model: str, strategy: int, leave_out: Iterable[int], seed: int, *, features: str
    ) -> Columns:
        self.asked += 1
        ids = np.array([each for each in range(COUNT)[::-1] if each not in {*leave_out}], np.uint32)
        return Columns(ids, ids % 3, (ids / COUNT).astype(np.float32), -(ids / COUNT).astype(np.float32))


def cache_of(scorers: Any) -> RunCache:
    pool = PoolPublished(pool_sha256="p", sample_count=COUNT, shape=[2], dtype="uint8", classes=["a", "b", "c"])
    return RunCache(pool, None, scorers, UNUSED)


async def test_what_is_left_of_a_ranking_is_not_ranked_again() -> None:
    scorers = Scorers()
    cache, taken = cache_of(scorers), BitMap([49, 3])
    whole = await cache.rest("m", taken)
    assert len(whole) == 48
    for start in range(0, 40, 20):
        part = (await cache.rest("m", taken)).rows(slice(20))
        assert part.sample_ids.tolist() == whole.sample_ids[start : start + 20].tolist()
        assert part.predicted.tolist() == (part.sample_ids % 3).tolist()
        taken |= BitMap(part.sample_ids)
    assert scorers.asked == 1
    restarted = await cache_of(scorers).rest("m", taken)  # another trainer goes on from the log
    assert restarted.sample_ids.tolist() == (await cache.rest("m", taken)).sample_ids.tolist()
    await cache.rest("another", taken)
    assert scorers.asked == 3


def test_auto_labels_come_back_as_examples_in_their_order() -> None:
    given = SamplesAutoLabelled(sample_ids=[7, 5], classes=[1, 0], confidence=[1.0, 0.5])
    labels = CertifiedLabels().with_more(given, 3, NOW).with_more(given, 3, NOW)
    assert len(labels) == 4
    found = [(each.sample_id, each.label, each.predicted, each.confidence, each.round) for each in labels]
    assert found == [(7, 1, 1, 1.0, 3), (5, 0, 0, 0.5, 3)] * 2
    assert all(each.auto_labelled and each.source == "model" and each.at == NOW for each in labels)


def test_a_million_auto_labels_are_held_in_a_few_megabytes() -> None:
    part = SamplesAutoLabelled(sample_ids=range(50_000), classes=[1] * 50_000, confidence=[0.5] * 50_000)
    tracemalloc.start()
    labels = CertifiedLabels()
    for _ in range(20):
        labels = labels.with_more(SamplesAutoLabelled.FromString(part.SerializeToString()), 1, NOW)
    held, _ = tracemalloc.get_traced_memory()  # of objects of Python, of which each example would be one
    tracemalloc.stop()
    assert len(labels) == 1_000_000
    assert held < 1_000_000
