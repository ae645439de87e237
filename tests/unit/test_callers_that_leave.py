"""A scorer ends the work of calls whose callers have left, and rankings do not wait for clusterings."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labelloop.artifacts.artifact_cache import ArtifactCache
from labelloop.artifacts.cache_folder import CacheFolder
from labelloop.domain.abandonment import Wanted
from labelloop.scorer.v1 import scorer_pb2 as pb
from labelloop.scorer.v1.scorer_pb2 import Strategy

from scorer_svc.features.pool import feature_pools, graphs
from scorer_svc.features.service import FeatureService
from scorer_svc.models.model import models
from scorer_svc.pools.pool import pools
from scorer_svc.prefilter.kernel_choice import PrefilterFactory
from scorer_svc.service import ScorerService
from tests.patience import PATIENCE_S
from tests.unit.kernels import numpy_kernels
from tests.unit.test_pool import PLENTY, Store, published
from tests.unused import UNUSED
from trainer_svc.model.onnx_export import to_onnx

SAMPLES = np.random.default_rng(0).integers(0, 256, (3_000, 12, 12)).astype(np.uint8)
SIZE = 144
ENDS_WITHIN_S = 1.0


class Gate:
    """Holds work at its first look at whether it is wanted, until its caller has left."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self.looks = threading.Event(), 0
        self.closed = True
        self._left = threading.Event()
        monkeypatch.setattr(Wanted, "check", self._checking(Wanted.check))
        monkeypatch.setattr(Wanted, "abandon", self._abandoning(Wanted.abandon))

    def _checking(self, check: Callable[[Wanted], None]) -> Callable[[Wanted], None]:
        def held(wanted: Wanted) -> None:
            if threading.current_thread() is not threading.main_thread() and self.closed:
                self.looks += 1
                self.reached.set()
                if self.looks > 1:  # the first is before the work begins
                    self._left.wait(PATIENCE_S)
            check(wanted)

        return held

    def _abandoning(self, abandon: Callable[[Wanted], None]) -> Callable[[Wanted], None]:
        def noted(wanted: Wanted) -> None:
            abandon(wanted)
            self._left.set()

        return noted

    async def until_working(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while self.looks < 2:  # noqa: ASYNC110 - a thread counts
                await asyncio.sleep(0.001)


@asynccontextmanager
async def scorer(folder: Path) -> AsyncIterator[tuple[ScorerService, dict[str, Any], list[ThreadPoolExecutor]]]:
    """Yield a service, a request for each of its methods that computes, and its executors."""
    store = Store()
    pool, _ = await published(store, SAMPLES, 1_500)
    weights = np.random.default_rng(1).normal(0, 0.02, (4, SIZE + 1)).astype(np.float32)
    model = await store.put(to_onnx(weights, "uint8"))
    known, cache = pools(store, ArtifactCache(store, folder / "a", PLENTY)), ArtifactCache(store, folder / "a", PLENTY)
    executors = [ThreadPoolExecutor(1) for _ in range(3)]
    ranking, cores, clustering = executors
    learning = FeatureService(known, graphs(store), cores)
    seen = feature_pools(known, graphs(store), CacheFolder(folder / "f", PLENTY), cores)
    made = models(store, PrefilterFactory(numpy_kernels, lambda: False))
    service = ScorerService(known, seen, learning, made, UNUSED, UNUSED, ranking, 1, cache, clustering)
    margin, k_means = Strategy.STRATEGY_MARGIN, Strategy.STRATEGY_K_MEANS
    asked: dict[str, Any] = {"pool_sha256": pool, "model_sha256": model}
    requests: dict[str, Any] = {
        "RankPool": pb.RankPoolRequest(**asked, strategy=margin, limit=10),
        "RankPool jointly": pb.RankPoolRequest(**asked, strategy=k_means, limit=10),
        "RankPool by features": pb.RankPoolRequest(pool_sha256=pool, features_sha256=model, strategy=k_means, limit=10),
        "RankPoolStream": pb.RankPoolStreamRequest(ranking=pb.RankPoolRequest(**asked, strategy=margin)),
        "ClusterPool": pb.ClusterPoolRequest(pool_sha256=pool, cluster_count=5),
        "LearnFeatures": pb.LearnFeaturesRequest(pool_sha256=pool, seed=1),
        "ExtractFeatures": pb.ExtractFeaturesRequest(features_sha256=model, samples=SAMPLES[:2_000].tobytes()),
    }
    try:
        yield service, requests, executors
    finally:
        for each in executors:
            each.shutdown()


async def answer(service: ScorerService, name: str, request: Any) -> None:
    called = getattr(service, name.partition(" ")[0])(request, UNUSED)
    if hasattr(called, "__aiter__"):
        async for _ in called:
            pass
    else:
        await called


METHODS = [
    *("RankPool", "RankPool jointly", "RankPool by features", "RankPoolStream"),
    *("ClusterPool", "LearnFeatures", "ExtractFeatures"),
]


@pytest.mark.parametrize("name", METHODS)
async def test_work_ends_within_a_second_of_its_caller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    async with scorer(tmp_path) as (service, requests, executors):
        await answer(
            service,
            "GetSamples",
            pb.GetSamplesRequest(pool_sha256=requests["ClusterPool"].pool_sha256, sample_ids=[0, 2_999]),
        )
        gate = Gate(monkeypatch)
        leaving = asyncio.create_task(answer(service, name, requests[name]))
        await gate.until_working()
        left_s = time.monotonic()
        leaving.cancel()
        await asyncio.wait([leaving])
        assert leaving.cancelled()
        for each in executors:
            await asyncio.to_thread(each.submit(lambda: None).result, PATIENCE_S)
        assert time.monotonic() - left_s < ENDS_WITHIN_S
        gate.closed = False
        await answer(service, name, requests[name])


async def test_rankings_do_not_wait_for_a_clustering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with scorer(tmp_path) as (service, requests, _):
        await answer(service, "RankPool", requests["RankPool"])
        gate = Gate(monkeypatch)
        clustering = asyncio.create_task(answer(service, "ClusterPool", requests["ClusterPool"]))
        await gate.until_working()
        gate.closed = False
        async with asyncio.timeout(PATIENCE_S):
            await answer(service, "RankPool", requests["RankPool"])
        assert not clustering.done()
        clustering.cancel()
        await asyncio.wait([clustering])
