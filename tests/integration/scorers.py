"""Fake scorers of a small pool, in this process, that record requests and fail on demand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
import numpy as np
from labelloop.artifacts.formats import PoolManifest, Shard
from labelloop.artifacts.store import digest_of
from labelloop.errors import LabelloopError, Unready
from labelloop.rpc.call_metrics import CallCounts
from labelloop.rpc.handlers import guarded
from labelloop.rpc.server import MESSAGE_BYTES_MAX, REQUEST_BYTES_MAX, Context
from labelloop.scorer.v1.scorer_pb2 import (
    ExtractFeaturesRequest,
    ExtractFeaturesResponse,
    FindFetchedShardsRequest,
    FindFetchedShardsResponse,
    GetSamplesRequest,
    GetSamplesResponse,
    RankPoolRequest,
    RankPoolResponse,
    RankPoolStreamRequest,
    RankPoolStreamResponse,
)
from labelloop.scorer.v1.scorer_pb2_grpc import ScorerServiceServicer, add_ScorerServiceServicer_to_server
from numpy.typing import NDArray
from pyroaring import BitMap

from trainer_svc.scorers.channels import ScorerChannels
from trainer_svc.scorers.client import ScorerClient

AWAY = Unready("STORE_AWAY", "not now")


class Pool:
    """A pool of shards of given sizes, samples ``[N, 2]``; also its own artifact store, which counts reads."""

    def __init__(self, *sizes: int) -> None:
        shards = [Shard(sha256=digest_of(bytes([place])), sample_count=size) for place, size in enumerate(sizes)]
        self._manifest = PoolManifest(dtype="float32", shape=(2,), shards=tuple(shards)).to_bytes()
        self.ends = np.cumsum(sizes)
        self.samples = np.arange(2 * sum(sizes), dtype=np.float32).reshape(-1, 2)
        self.digest, self.reads = digest_of(self._manifest), 0

    async def get(self, digest: str) -> bytes:
        assert digest == self.digest
        self.reads += 1
        return self._manifest

    async def put(self, data: bytes) -> str:
        raise AssertionError("nobody writes here")

    def ids(self, places: Sequence[int]) -> list[int]:
        """Return the sample ids of these shards; of all shards if none is given."""
        held_in = np.searchsorted(self.ends, np.arange(len(self.samples)), side="right")
        return [int(each) for each in np.flatnonzero(np.isin(held_in, places or np.unique(held_in)))]


class Scorer(ScorerServiceServicer):
    """``fault`` is raised by each call; ``heeds_shards`` is False for a scorer older than sharding.

    ``has_streams`` is False for one older than RankPoolStream. The next ``breaks_after`` streams break after a part.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.asked: list[RankPoolRequest | GetSamplesRequest | ExtractFeaturesRequest] = []
        self.sample_values, self.feature_count = 2, 1
        self.called = asyncio.Event()
        self.fault: LabelloopError | None = None
        self.heeds_shards, self.sends_samples = True, True
        self.has_streams, self.breaks_after = True, 0
        self.address = ""
        self.fetched: list[int] = []

    def _take(self, request: Any) -> None:
        self.asked.append(request)
        self.called.set()
        if self.fault:
            raise self.fault

    async def RankPool(self, request: RankPoolRequest, context: Context) -> RankPoolResponse:  # noqa: N802
        self._take(request)
        return self._ranked(request)

    async def RankPoolStream(  # noqa: N802
        self, request: RankPoolStreamRequest, context: Context
    ) -> AsyncIterator[RankPoolStreamResponse]:
        """Rank in parts of seven samples."""
        if not self.has_streams:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
        self._take(request.ranking)
        ranked = self._ranked(request.ranking)
        for start in range(0, max(1, len(ranked.sample_ids)), 7):
            if start and self.breaks_after:
                self.breaks_after -= 1
                raise AWAY
            rows = slice(start, start + 7)
            yield RankPoolStreamResponse(
                sample_count=len(ranked.sample_ids),
                sample_ids=np.array(ranked.sample_ids[rows], "<u4").tobytes(),
                predicted=np.array(ranked.predicted[rows], "<u4").tobytes(),
                confidence=np.array(ranked.confidence[rows], "<f4").tobytes(),
                score=np.array(ranked.score[rows], "<f4").tobytes(),
            )

    def _ranked(self, request: RankPoolRequest) -> RankPoolResponse:
        left_out = BitMap.deserialize(request.leave_out)
        free = [each for each in self._pool.ids(request.shards if self.heeds_shards else ()) if each not in left_out]
        best = sorted(free, key=lambda sample_id: (_score(sample_id), sample_id))[: request.limit or None]
        return RankPoolResponse(
            sample_ids=best,
            predicted=[sample_id % 10 for sample_id in best] if request.model_sha256 else [],
            confidence=[1 / (1 + sample_id) for sample_id in best] if request.model_sha256 else [],
            score=[_score(sample_id) for sample_id in best],
            samples=_samples(self._pool.samples[best]) if self.sends_samples else None,
        )

    async def FindFetchedShards(  # noqa: N802
        self, request: FindFetchedShardsRequest, context: Context
    ) -> FindFetchedShardsResponse:
        assert request.pool_sha256 == self._pool.digest
        if self.fault:
            raise self.fault
        return FindFetchedShardsResponse(shards=self.fetched)

    async def GetSamples(self, request: GetSamplesRequest, context: Context) -> GetSamplesResponse:  # noqa: N802
        self._take(request)
        return _samples(self._pool.samples[list(request.sample_ids)])

    async def ExtractFeatures(  # noqa: N802
        self, request: ExtractFeaturesRequest, context: Context
    ) -> ExtractFeaturesResponse:
        """Return the first value of each float32 sample, ``feature_count`` times."""
        self._take(request)
        firsts = np.frombuffer(request.samples, "<f4").reshape(-1, self.sample_values)[:, 0]
        return ExtractFeaturesResponse(features=np.repeat(firsts, self.feature_count).tobytes())


def _score(sample_id: int) -> float:
    """Return a score that many samples share."""
    return sample_id * 7 % 5 / 8


def _samples(samples: NDArray[np.float32]) -> GetSamplesResponse:
    return GetSamplesResponse(dtype="float32", shape=samples.shape[1:], samples=samples.tobytes())


def scorer_of(pool: Pool) -> Scorer:
    return Scorer(pool)  # type: ignore[abstract]  # the other RPCs are not called


@asynccontextmanager
async def scorers(pool: Pool, count: int) -> AsyncIterator[list[Scorer]]:
    """Serve ``count`` scorers on free ports."""
    async with AsyncExitStack() as stack:
        made = [scorer_of(pool) for _ in range(count)]
        for scorer in made:
            await stack.enter_async_context(served(scorer))
        yield made


@asynccontextmanager
async def served(scorer: Scorer) -> AsyncIterator[None]:
    """Serve the scorer at its address, or at a free one if it has none."""
    limits = [
        ("grpc.max_receive_message_length", REQUEST_BYTES_MAX),
        ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ]
    server = grpc.aio.server(options=[*limits, ("grpc.so_reuseport", 0)])
    add_ScorerServiceServicer_to_server(scorer, guarded(server, CallCounts()))
    scorer.address = f"127.0.0.1:{server.add_insecure_port(scorer.address or '127.0.0.1:0')}"
    await server.start()
    try:
        yield
    finally:
        await server.stop(None)


@asynccontextmanager
async def ranking(pool: Pool, made: Sequence[Scorer]) -> AsyncIterator[ScorerClient]:
    """Yield a client of these scorers."""
    replicas = ScorerChannels(",".join(scorer.address for scorer in made))
    await replicas.look_up()
    try:
        yield ScorerClient(replicas, pool)
    finally:
        await replicas.close()
