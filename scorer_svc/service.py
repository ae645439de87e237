"""ScorerService: pools ranked, read and grouped."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor

import numpy as np
from labelloop.scorer.v1 import scorer_pb2 as pb
from labelloop.scorer.v1.scorer_pb2_grpc import ScorerServiceServicer
from labelloop.wire.errors import InvalidInput, LimitExceeded
from labelloop.wire.loading import Loaded
from labelloop.wire.serving import MESSAGE_BYTES_MAX, Context
from pyroaring import BitMap

from scorer_svc.clustering import cluster
from scorer_svc.model import Model
from scorer_svc.pool import Pool
from scorer_svc.ranking import Ranking, rank
from scorer_svc.selection import Ids

_SAMPLES_ALONG_BYTES_MAX = MESSAGE_BYTES_MAX // 8


class ScorerService(ScorerServiceServicer):
    """``executor`` does what takes more than a moment, off the event loop."""

    def __init__(self, pools: Loaded[str, Pool], models: Loaded[str, Model], executor: Executor) -> None:
        self._pools, self._models, self._executor = pools, models, executor

    async def RankPool(self, request: pb.RankPoolRequest, context: Context) -> pb.RankPoolResponse:
        pool = await self._pools.get(request.pool_sha256)
        model = await self._models.get(request.model_sha256) if request.model_sha256 else None
        free = _free_ids(len(pool.samples), request.leave_out)
        ranking = await asyncio.get_running_loop().run_in_executor(
            self._executor, rank, pool.samples, free, request.strategy, request.limit, request.seed, model
        )
        return pb.RankPoolResponse(
            sample_ids=ranking.sample_ids.tolist(),
            predicted=ranking.predicted.tolist(),
            confidence=ranking.confidence.tolist(),
            score=ranking.score.tolist(),
            samples=_read(pool, ranking.sample_ids) if request.with_samples and _small(pool, ranking) else None,
        )

    async def GetSamples(self, request: pb.GetSamplesRequest, context: Context) -> pb.GetSamplesResponse:
        pool = await self._pools.get(request.pool_sha256)
        return _read(pool, np.asarray(request.sample_ids, np.uint32))

    async def ClusterPool(self, request: pb.ClusterPoolRequest, context: Context) -> pb.ClusterPoolResponse:
        pool = await self._pools.get(request.pool_sha256)
        if not 2 <= request.cluster_count <= len(pool.samples):
            message = f"the number of clusters must lie between 2 and {len(pool.samples)}, not {request.cluster_count}"
            raise InvalidInput("BAD_CLUSTER_COUNT", message, field="cluster_count")
        clusters, centroids = await asyncio.get_running_loop().run_in_executor(
            self._executor, cluster, pool.samples, request.cluster_count, request.seed
        )
        return pb.ClusterPoolResponse(cluster=clusters.tolist(), centroids=centroids.astype("<f4").tobytes())


def _small(pool: Pool, ranking: Ranking) -> bool:
    return pool.samples[:1].nbytes * len(ranking.sample_ids) <= _SAMPLES_ALONG_BYTES_MAX


def _read(pool: Pool, sample_ids: Ids) -> pb.GetSamplesResponse:
    sample_bytes = pool.samples[:1].nbytes
    if sample_bytes * len(sample_ids) > MESSAGE_BYTES_MAX // 2:
        most = MESSAGE_BYTES_MAX // 2 // sample_bytes
        message = f"{len(sample_ids)} samples are too many for one answer: ask for at most {most}"
        raise LimitExceeded("TOO_MANY_SAMPLES", message, asked=len(sample_ids), most=most)
    samples = np.ascontiguousarray(pool.take(sample_ids)).tobytes()
    return pb.GetSamplesResponse(dtype=pool.manifest.dtype, shape=pool.manifest.shape, samples=samples)


def _free_ids(sample_count: int, leave_out: bytes) -> Ids:
    """The ids that are not in the bitmap ``leave_out``, ascending."""
    free = np.ones(sample_count, bool)
    if leave_out:
        try:
            taken = np.asarray(BitMap.deserialize(leave_out).to_array(), np.int64)
        except ValueError as error:
            message = "leave_out is not a roaring bitmap in the portable serialisation"
            raise InvalidInput("BAD_BITMAP", message, field="leave_out") from error
        free[taken[taken < sample_count]] = False
    return np.flatnonzero(free).astype(np.uint32)
