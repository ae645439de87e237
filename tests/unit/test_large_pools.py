"""Pools larger than the scorer's memory and disk cache: the same answers as where all of it fits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labelloop.artifacts.artifact_cache import ArtifactCache
from labelloop.artifacts.formats import PoolManifest, Shard
from labelloop.domain.strategies import CHOOSE_TOGETHER, NEED_NO_MODEL
from labelloop.errors import LimitExceeded
from labelloop.runtime.async_cache import AsyncCache
from labelloop.scorer.v1 import scorer_pb2 as pb
from labelloop.scorer.v1.scorer_pb2 import Strategy
from pyroaring import BitMap

from scorer_svc.models.model import models
from scorer_svc.pools.part import Part
from scorer_svc.pools.pool import Pool, pools
from scorer_svc.pools.window import MappedWindow
from scorer_svc.prefilter.kernel_choice import PrefilterFactory
from scorer_svc.service import ScorerService
from tests.unit.kernels import numpy_kernels
from tests.unit.test_pool import PLENTY, Store, published
from tests.unused import UNUSED
from trainer_svc.model.onnx_export import to_onnx

RNG = np.random.default_rng(0)
DIFFERENT = RNG.integers(0, 256, (1_000, 6)).astype(np.uint8)
SAMPLES = DIFFERENT[RNG.integers(0, len(DIFFERENT), 6_000)]  # with ties
BOUNDS = (1_250, 1_500, 3_000, 4_000, 5_500)
LARGEST_SHARD = SAMPLES[:1_500].nbytes
LEFT_OUT = BitMap([*range(0, 6_000, 7), *range(1_250, 1_500)])
EVERY = [value for value in Strategy.values() if value]


@asynccontextmanager
async def services(folder: Path) -> AsyncIterator[tuple[ScorerService, ScorerService, pb.RankPoolRequest]]:
    """Yield a service that holds the whole pool, one that holds a shard at a time, and a request about the pool."""
    store = Store()
    digest, _ = await published(store, SAMPLES, *BOUNDS)
    model = await store.put(to_onnx(np.random.default_rng(1).normal(0, 0.02, (4, 7)).astype(np.float32), "uint8"))
    prefilters = PrefilterFactory(numpy_kernels, lambda: True)
    with ThreadPoolExecutor(2) as executor:

        def service(name: str, mapped: int, cached: int, threads: int) -> ScorerService:
            known = pools(store, ArtifactCache(store, folder / name, cached), MappedWindow(mapped))
            return ScorerService(
                known, UNUSED, UNUSED, models(store, prefilters), UNUSED, UNUSED, executor, threads, UNUSED
            )

        request = pb.RankPoolRequest(
            pool_sha256=digest, model_sha256=model, leave_out=LEFT_OUT.serialize(), seed=3, with_samples=True
        )
        yield service("whole", PLENTY, PLENTY, 2), service("part", LARGEST_SHARD, LARGEST_SHARD, 1), request


@pytest.mark.parametrize("strategy", EVERY, ids=Strategy.Name)
async def test_rankings_are_those_of_a_pool_in_memory(tmp_path: Path, strategy: Strategy.ValueType) -> None:
    async with services(tmp_path) as (whole, part, request):
        request.strategy = strategy
        for limit in (1, 20) if strategy in CHOOSE_TOGETHER else (1, 300, 0):
            request.limit = limit
            for model in {request.model_sha256, request.model_sha256 if strategy not in NEED_NO_MODEL else ""}:
                asked = pb.RankPoolRequest()
                asked.CopyFrom(request)
                asked.model_sha256 = model
                ranked = await part.RankPool(asked, UNUSED)
                assert ranked == await whole.RankPool(asked, UNUSED)
                assert len(ranked.sample_ids) == (limit or len(SAMPLES) - len(LEFT_OUT))
                assert len(ranked.predicted) == (len(ranked.sample_ids) if model else 0)


async def test_some_shards_are_ranked_as_in_memory(tmp_path: Path) -> None:
    async with services(tmp_path) as (whole, part, request):
        request.strategy, request.limit = Strategy.STRATEGY_MARGIN, 40
        request.shards.extend([4, 0, 2])
        assert await part.RankPool(request, UNUSED) == await whole.RankPool(request, UNUSED)


async def test_a_random_ranking_reads_only_the_shards_that_it_chooses_from(tmp_path: Path) -> None:
    store = Store()
    digest, shards = await published(store, SAMPLES, *range(100, 6_000, 100))
    known = pools(store, ArtifactCache(store, tmp_path, PLENTY))
    with ThreadPoolExecutor(1) as executor:
        service = ScorerService(known, UNUSED, UNUSED, UNUSED, UNUSED, UNUSED, executor, 1, UNUSED)
        request = pb.RankPoolRequest(pool_sha256=digest, strategy=Strategy.STRATEGY_RANDOM, limit=10, with_samples=True)
        ranked = await service.RankPool(request, UNUSED)
    held = {int(sample_id) // 100 for sample_id in ranked.sample_ids}
    assert {*store.reads} == {digest, *(shards[place] for place in held)}


@pytest.mark.parametrize("strategy", [Strategy.STRATEGY_MARGIN, Strategy.STRATEGY_RANDOM], ids=Strategy.Name)
async def test_a_ranking_with_its_samples_reads_each_shard_once(tmp_path: Path, strategy: Strategy.ValueType) -> None:
    store = Store()
    digest, shards = await published(store, SAMPLES, *BOUNDS)
    model = await store.put(to_onnx(np.random.default_rng(1).normal(0, 0.02, (4, 7)).astype(np.float32), "uint8"))
    known = pools(store, ArtifactCache(store, tmp_path, LARGEST_SHARD), MappedWindow(LARGEST_SHARD))
    with ThreadPoolExecutor(1) as executor:
        loaded = models(store, PrefilterFactory(numpy_kernels, lambda: True))
        service = ScorerService(known, UNUSED, UNUSED, loaded, UNUSED, UNUSED, executor, 1, UNUSED)
        request = pb.RankPoolRequest(
            pool_sha256=digest, model_sha256=model, strategy=strategy, limit=300, with_samples=True
        )
        ranked = await service.RankPool(request, UNUSED)
    assert sorted(read for read in store.reads if read in shards) == sorted(shards)
    assert ranked.samples.samples == SAMPLES[list(ranked.sample_ids)].tobytes()


class Enormous(Pool):
    """Four million samples of 50 values, none of which can be read."""

    def __init__(self) -> None:
        shard = Shard(sha256="0" * 64, sample_count=4_000_000)
        super().__init__(PoolManifest(dtype="float32", shape=(50,), shards=(shard,)))

    async def _load(self, index: int) -> Part:
        raise AssertionError("refused before")


async def test_clusters_of_a_pool_that_memory_cannot_hold_are_refused_before_it_is_read() -> None:
    async def load(digest: str) -> Any:
        return Enormous()

    service = ScorerService(AsyncCache(load, kept=1), UNUSED, UNUSED, UNUSED, UNUSED, UNUSED, UNUSED, 1, UNUSED)
    with pytest.raises(LimitExceeded, match="200,000,000") as caught:
        await service.ClusterPool(pb.ClusterPoolRequest(pool_sha256="a" * 64, cluster_count=2), UNUSED)
    assert (caught.value.reason, caught.value.field) == ("POOL_TOO_LARGE", "pool_sha256")
