"""Batches chosen from pools: the samples that strategies read, limits of size, and repeated requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import Any

import numpy as np
import pytest
from labelloop.artifacts.formats import PoolManifest, Shard
from labelloop.domain.strategies import CHOOSE_TOGETHER, NEED_NO_MODEL, TOGETHER_MAX, TOGETHER_VALUES_MAX
from labelloop.errors import InvalidInput, LimitExceeded
from labelloop.events.v1.events_pb2 import FeatureKind, Inheritance, LabelSource, Protocol, RunSpec
from labelloop.oracle.v1.oracle_pb2 import DescribeDatasetResponse
from labelloop.runtime.async_cache import AsyncCache
from labelloop.scorer.v1 import scorer_pb2 as pb
from labelloop.scorer.v1.scorer_pb2 import Strategy
from numpy.typing import NDArray
from pyroaring import BitMap

from scorer_svc.models.model import Model
from scorer_svc.pools.part import Part
from scorer_svc.pools.pool import Pool
from scorer_svc.ranking import batch
from scorer_svc.ranking.batch import check_batch, first_pass, rank_together
from scorer_svc.ranking.rank import Question, rank
from scorer_svc.service import ScorerService
from tests.unused import UNUSED
from trainer_svc.domain.spec_validation import check_spec
from trainer_svc.model.onnx_export import to_onnx

WIDTH = 5
MODEL = Model(to_onnx(np.random.default_rng(1).normal(0, 2, (3, WIDTH + 1)).astype(np.float32), "float32"), "m")
every_strategy = pytest.mark.parametrize("strategy", sorted(CHOOSE_TOGETHER), ids=Strategy.Name)


def values(count: int, width: int = WIDTH) -> NDArray[np.float32]:
    return np.random.default_rng(0).random((count, width), np.float32)


def asked(strategy: Strategy.ValueType, limit: int, seed: int = 1, left_out: BitMap | None = None) -> Question:
    model = None if strategy in NEED_NO_MODEL else MODEL
    return Question(strategy, limit, left_out or BitMap(), seed, model)


@every_strategy
def test_the_largest_batch_has_distinct_samples_and_none_left_out(strategy: Strategy.ValueType) -> None:
    left_out = BitMap(range(0, 24_000, 20))
    samples = values(25_000)
    parts = [Part(0, samples[:15_000]), Part(15_000, samples[15_000:])]
    ranking = rank_together(parts, asked(strategy, TOGETHER_MAX, left_out=left_out))
    assert len(set(ranking.sample_ids.tolist())) == TOGETHER_MAX
    assert not left_out & BitMap(ranking.sample_ids)
    assert (np.diff(ranking.score) >= 0).all()


@every_strategy
def test_batches_over_the_limits_of_size_are_refused(strategy: Strategy.ValueType) -> None:
    check_batch(asked(strategy, TOGETHER_MAX), 1_000_000, 1_800)
    check_batch(asked(strategy, 0), TOGETHER_MAX, 784)
    check_batch(asked(strategy, 10**9, left_out=BitMap(range(50, 10**6))), 60_000, 784)
    for question, count in ((asked(strategy, TOGETHER_MAX + 1), 10**6), (asked(strategy, 0), TOGETHER_MAX + 1)):
        with pytest.raises(LimitExceeded, match=f"at most {TOGETHER_MAX}"):
            check_batch(question, count, 784)
    with pytest.raises(LimitExceeded, match="at most 830"):
        check_batch(asked(strategy, 5_000), 60_000, 224 * 224 * 3)


def test_the_shortlist_is_drawn_independently_of_the_random_strategy() -> None:
    """Large pools have a shortlist; small ones are read whole."""
    samples, free = values(60_000, 1), 60_000
    look_at = first_pass(asked(Strategy.STRATEGY_K_MEANS, 10), sample_size=1)
    shortlist = rank([Part(0, samples)], look_at).sample_ids
    drawn = rank([Part(0, samples)], asked(Strategy.STRATEGY_RANDOM, 1_000)).sample_ids
    assert len(shortlist) == 20_000
    assert len(np.intersect1d(shortlist, drawn)) == pytest.approx(1_000 * len(shortlist) / free, abs=100)


@pytest.mark.parametrize("strategy", [Strategy.STRATEGY_K_MEANS, Strategy.STRATEGY_CLUSTERED_MARGIN])
@pytest.mark.parametrize("width", [784, 1_800, 224 * 224 * 3])
def test_the_shortlist_fits_into_memory(strategy: Strategy.ValueType, width: int) -> None:
    room = TOGETHER_VALUES_MAX // width
    for limit in (1, 100, min(TOGETHER_MAX, room // 2)):
        held = first_pass(asked(strategy, limit), width).limit
        assert 2 * limit <= held <= room
        if width < 2_000:
            wanted = 10 * limit if strategy == Strategy.STRATEGY_CLUSTERED_MARGIN else 20_000
            assert held == wanted


@every_strategy
def test_only_typiclust_and_k_center_read_samples_chosen_before(
    strategy: Strategy.ValueType, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    samples_of = batch.samples_of

    def noted(parts: list[Part], ids: NDArray[np.uint32]) -> NDArray[Any]:
        read.extend(ids.tolist())
        return samples_of(parts, ids)

    monkeypatch.setattr(batch, "samples_of", noted)
    left_out = BitMap(range(0, 100, 3))
    rank_together([Part(0, values(40)), Part(40, values(60))], asked(strategy, 5, left_out=left_out))
    keeps_away = strategy in (Strategy.STRATEGY_TYPICLUST, Strategy.STRATEGY_K_CENTER)
    assert (left_out & BitMap(read)) == (left_out if keeps_away else BitMap())


class Held(ThreadPoolExecutor):
    """An executor that counts tasks, which wait for ``go``."""

    def __init__(self) -> None:
        super().__init__(1)
        self.go, self.count = Event(), 0
        self.taken = asyncio.Event()

    def submit(self, work: Callable[..., Any], /, *args: Any, **more: Any) -> Future[Any]:
        self.count += 1
        self.taken.set()

        def wait() -> Any:
            self.go.wait()
            return work(*args, **more)

        return super().submit(wait)


class InMemory(Pool):
    def __init__(self, samples: NDArray[np.float32]) -> None:
        shard = Shard(sha256="0" * 64, sample_count=len(samples))
        super().__init__(PoolManifest(dtype="float32", shape=samples.shape[1:], shards=(shard,)))
        self._part = Part(0, samples)

    async def _load(self, index: int) -> Part:
        return self._part


def service_of(pool: Pool, executor: ThreadPoolExecutor) -> ScorerService:
    async def load_pool(digest: str) -> Pool:
        return pool

    async def load_model(digest: str) -> Model:
        return MODEL

    pools, models = AsyncCache(load_pool, kept=1), AsyncCache(load_model, kept=1)
    return ScorerService(pools, UNUSED, UNUSED, models, UNUSED, UNUSED, executor, 1, UNUSED)


async def test_a_batch_is_kept_and_chosen_anew_after_its_only_caller_left() -> None:
    request = pb.RankPoolRequest(
        pool_sha256="a" * 64, strategy=Strategy.STRATEGY_K_MEANS, limit=7, seed=1, leave_out=BitMap([3]).serialize()
    )
    with Held() as executor:
        service = service_of(InMemory(values(50)), executor)
        first = asyncio.create_task(service.RankPool(request, UNUSED))
        await executor.taken.wait()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        begun = executor.count
        executor.go.set()
        answer = await service.RankPool(request, UNUSED)
        worked = executor.count - begun
        assert await service.RankPool(request, UNUSED) == answer
        assert executor.count == begun + worked
        assert len(answer.sample_ids) == 7
        request.seed = 2
        assert await service.RankPool(request, UNUSED) != answer
        assert executor.count == begun + 2 * worked


async def test_a_batch_that_is_too_large_is_refused_before_work_begins() -> None:
    with Held() as executor:
        service = service_of(InMemory(values(TOGETHER_MAX + 1)), executor)
        request = pb.RankPoolRequest(pool_sha256="a" * 64, strategy=Strategy.STRATEGY_K_CENTER)
        with pytest.raises(LimitExceeded, match="chosen together"):
            await service.RankPool(request, UNUSED)
        assert executor.count == 0


def batch_spec(**changes: Any) -> RunSpec:
    made = {
        "strategy": Strategy.STRATEGY_BADGE,
        "first_strategy": Strategy.STRATEGY_K_MEANS,
        "batch_size": TOGETHER_MAX,
        "label_budget": TOGETHER_MAX,
        "features": FeatureKind.FEATURE_KIND_PIXELS,
        "protocol": Protocol.PROTOCOL_HONEST,
        "label_source": LabelSource.LABEL_SOURCE_DATASET,
        "report_every": 1,
    }
    return RunSpec(**(made | changes))


def described(*shape: int) -> DescribeDatasetResponse:
    return DescribeDatasetResponse(
        sample_count=60_000, shape=shape, dtype="uint8", classes=["a", "b"], has_labels=True, evaluation_count=100
    )


def test_a_spec_whose_batches_the_scorer_would_refuse_is_refused() -> None:
    check_spec(batch_spec(), described(28, 28), Inheritance())
    for changes in ({"batch_size": TOGETHER_MAX + 1}, {"first_batch_size": TOGETHER_MAX + 1}):
        with pytest.raises(InvalidInput, match=str(TOGETHER_MAX)):
            check_spec(batch_spec(**changes), described(28, 28), Inheritance())
    large = described(224, 224, 3)
    with pytest.raises(LimitExceeded, match="what a batch is chosen from"):
        check_spec(batch_spec(batch_size=1_000, label_budget=3_000), large, Inheritance())
    check_spec(batch_spec(batch_size=800, label_budget=3_000), large, Inheritance())
    learned = batch_spec(batch_size=1_000, label_budget=3_000, features=FeatureKind.FEATURE_KIND_PATCHES)
    check_spec(learned, large, Inheritance())
