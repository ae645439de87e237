"""Serve ScorerService: rank, read and cluster pools, learn and extract features, and classify posted images."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Executor
from contextlib import aclosing
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import grpc
import numpy as np
from labelloop.artifacts.artifact_cache import ArtifactCache
from labelloop.artifacts.texts import encode_texts
from labelloop.domain.abandonment import wanted
from labelloop.domain.strategies import CHOOSE_TOGETHER
from labelloop.errors import InvalidInput, LimitExceeded
from labelloop.rpc.server import MESSAGE_BYTES_MAX, Context
from labelloop.runtime.async_cache import AsyncCache
from labelloop.runtime.threads import in_thread
from labelloop.scorer.v1 import scorer_pb2 as pb
from labelloop.scorer.v1.scorer_pb2 import Strategy
from labelloop.scorer.v1.scorer_pb2_grpc import ScorerServiceServicer
from numpy.typing import NDArray
from pyroaring import BitMap

from scorer_svc.features.service import FeatureService
from scorer_svc.models.model import Model
from scorer_svc.models.running import stoppable
from scorer_svc.models.warmup import ModelWarmup
from scorer_svc.numerics.clustering import Plan, cluster, clusters_max, plan
from scorer_svc.pools.part import Part
from scorer_svc.pools.pool import Pool, check_numbers
from scorer_svc.ranking.batch import check_batch, chosen, first_pass, perturbed, seen_ids
from scorer_svc.ranking.kept_samples import KeptSamples
from scorer_svc.ranking.pieces import cut
from scorer_svc.ranking.rank import Question, Ranking, answers, by_id, check, merge, rank
from scorer_svc.scoring.score import Scoring
from scorer_svc.strategies.uncertainty import Ids

_SAMPLES_ALONG_BYTES_MAX = MESSAGE_BYTES_MAX // 8
_SAMPLES_BYTES_MAX = MESSAGE_BYTES_MAX // 2
_TEXT_CHARACTERS_MAX = _SAMPLES_BYTES_MAX // 4
_ANSWER_SAMPLES_MAX = 4_000_000  # of 15 bytes each, in one message
_INLINE_SAMPLES = 20_000  # a millisecond or two
_PART_SAMPLES = 250_000  # of 16 bytes each: 4 MB
_BY_ID = {Strategy.STRATEGY_IN_ORDER, Strategy.STRATEGY_RANDOM}
_CLUSTER_VALUES_MAX = 150_000_000  # of float32: 600 MB, besides the samples themselves
_CHOSEN_KEPT = 64  # batches, of 10,000 samples at most
_DIGEST = re.compile("[0-9a-f]{64}")

T = TypeVar("T")


class Asked(NamedTuple):
    """All that a jointly chosen batch depends on; the cache key of batches."""

    pool: str
    features: str
    model: str
    strategy: Strategy.ValueType
    limit: int
    leave_out: bytes
    seed: int

    @classmethod
    def of(cls, request: pb.RankPoolRequest) -> Asked:
        names = (request.pool_sha256, request.features_sha256, request.model_sha256)
        return cls(*names, request.strategy, request.limit, request.leave_out, request.seed)


class ScorerService(ScorerServiceServicer):
    """The gRPC methods of the scorer.

    ``executor``, of ``score_threads`` threads, does what takes more than a moment, off the event loop; ``clustering``
    makes clusters, so that rankings do not wait for them. Work ends when nobody waits for it any more.
    """

    def __init__(
        self,
        pools: AsyncCache[str, Pool],
        feature_pools: AsyncCache[tuple[str, str], Pool],
        learning: FeatureService,
        models: AsyncCache[str, Model],
        newest: ModelWarmup,
        scoring: Scoring,
        executor: Executor,
        score_threads: int,
        cache: ArtifactCache,
        clustering: Executor | None = None,
    ) -> None:
        self._cache, self._clustering = cache, clustering
        self._pools, self._feature_pools, self._learning = pools, feature_pools, learning
        self._models, self._newest = models, newest
        self._scoring = scoring
        self._executor, self._score_threads = executor, score_threads
        self._chosen = AsyncCache(self._choose, kept=_CHOSEN_KEPT)

    async def RankPool(self, request: pb.RankPoolRequest, context: Context) -> pb.RankPoolResponse:
        pool = await self._seen(request.pool_sha256, request.features_sha256)
        kept = KeptSamples() if request.with_samples and _may_be_sent(pool, request.limit) else None
        ranking = await self._ranking(request, answer_max=_ANSWER_SAMPLES_MAX, kept=kept)
        along = request.with_samples and (_may_be_sent(pool, len(ranking.sample_ids)) or not len(ranking.sample_ids))
        if len(ranking.sample_ids) <= _INLINE_SAMPLES:
            response = _response(ranking)
        else:
            response = await self._run(_response, ranking)
        if along:
            response.samples.CopyFrom(await self._read(pool, ranking.sample_ids, kept))
        return response

    async def FindFetchedShards(
        self, request: pb.FindFetchedShardsRequest, context: Context
    ) -> pb.FindFetchedShardsResponse:
        pool = await self._pools.get(_checked_digest(request.pool_sha256, "pool_sha256"))
        held = await self._cache.held([shard.sha256 for shard in pool.manifest.shards])
        there = {place for place, has in enumerate(held) if has}
        if pool.sample_count * pool.sample_bytes > self._cache.bytes_max:  # never all at once: how far a pass has come
            there = set(pool.read_lately) or there
        return pb.FindFetchedShardsResponse(shards=sorted(there))

    async def RankPoolStream(
        self, request: pb.RankPoolStreamRequest, context: Context
    ) -> AsyncIterator[pb.RankPoolStreamResponse]:
        ranking = await self._ranking(request.ranking)
        for start in range(0, max(1, len(ranking.sample_ids)), _PART_SAMPLES):
            yield _part(ranking, slice(start, start + _PART_SAMPLES))

    async def _ranking(
        self, request: pb.RankPoolRequest, answer_max: int | None = None, kept: KeptSamples | None = None
    ) -> Ranking:
        asked = Asked.of(request)
        pool, question = await self._question(asked)
        check(question, pool.sample_size)
        if pool.holds_texts and (request.strategy not in _BY_ID or question.model):
            raise _needs_features("models and most strategies look at values")
        if answer_max is not None:
            _check_answer(pool.spans(request.shards), question, answer_max)
        if request.strategy not in CHOOSE_TOGETHER:
            return await self._ranked(pool, request.shards, question, kept)
        if request.shards:
            message = "this strategy chooses a batch together, out of the whole pool: name no shards"
            raise InvalidInput("NEEDS_WHOLE_POOL", message, field="shards")
        check_batch(question, pool.sample_count, pool.sample_size)
        return await self._chosen.get(asked)

    async def _ranked(
        self, pool: Pool, shards: Sequence[int], question: Question, kept: KeptSamples | None = None
    ) -> Ranking:
        """Rank these shards of a pool, of which no more are in memory at once than fit.

        Where they are not all in memory together, the samples that come first are ``kept``, if there is a limit.
        """
        if by_id(question):
            return await self._ranked_by_id(pool, shards, question, kept)
        rankings: list[Ranking] = []
        async with aclosing(pool.groups(shards)) as groups:
            async for parts in groups:
                rankings.append(await self._rank(parts, question))
                if question.limit and len(rankings) > 1:
                    rankings = [merge(rankings, question.limit)]
                if question.limit and kept and not pool.fits(shards):
                    kept.keep(parts, rankings[0].sample_ids)
        return rankings[0] if len(rankings) == 1 else await self._run(merge, rankings, question.limit)

    async def _ranked_by_id(
        self, pool: Pool, shards: Sequence[int], question: Question, kept: KeptSamples | None
    ) -> Ranking:
        """Rank by ids alone, and read only the samples that come first, if a model is to say what they are."""
        ranking = await self._rank(pool.spans(shards), replace(question, model=None))
        if question.model is None:
            return ranking
        predicted = np.empty(len(ranking.sample_ids), np.int64)
        confidence = np.empty(len(ranking.sample_ids), np.float32)
        async with aclosing(pool.holding(ranking.sample_ids)) as parts:
            async for part, at in parts:
                found = await self._run(answers, question.model, part, ranking.sample_ids[at])
                predicted[at], confidence[at] = found
                if kept and not pool.fits(shards):
                    kept.add([part], ranking.sample_ids[at])
        return replace(ranking, predicted=predicted, confidence=confidence)

    async def _rank(self, parts: Sequence[Part], question: Question) -> Ranking:
        pieces = cut(parts, self._score_threads)
        if len(pieces) == 1:
            return await self._run(rank, pieces[0], question)
        rankings = await asyncio.gather(*[self._run(rank, piece, question) for piece in pieces])
        return await self._run(merge, rankings, question.limit)

    async def _run(self, work: Callable[..., T], *arguments: object) -> T:
        return await stoppable(self._executor, work, *arguments)

    async def _question(self, asked: Asked) -> tuple[Pool, Question]:
        pool = await self._seen(asked.pool, asked.features)
        if asked.strategy not in _BY_ID:
            check_numbers(pool)
        model = await self._model(asked.model) if asked.model else None
        return pool, Question(asked.strategy, asked.limit, _bitmap(asked.leave_out), asked.seed, model)

    async def _choose(self, asked: Asked) -> Ranking:
        pool, question = await self._question(asked)
        near = await self._ranked(pool, (), first_pass(question, pool.sample_size))
        if question.strategy == Strategy.STRATEGY_POWER_MARGIN:
            return await self._run(perturbed, near, question)
        ids = np.sort(near.sample_ids)
        seen = await pool.take(seen_ids(question, 0, pool.sample_count, pool.sample_size))
        return await self._run(chosen, ids, await pool.take(ids), seen, question)

    async def GetSamples(self, request: pb.GetSamplesRequest, context: Context) -> pb.GetSamplesResponse:
        pool = await self._seen(request.pool_sha256, request.features_sha256)
        _check_amount(pool, len(request.sample_ids))  # before millions of ids are converted
        few = len(request.sample_ids) <= _INLINE_SAMPLES
        ids = _ids(request.sample_ids) if few else await self._run(_ids, request.sample_ids)
        return await self._read(pool, ids)

    async def _read(self, pool: Pool, sample_ids: Ids, kept: KeptSamples | None = None) -> pb.GetSamplesResponse:
        found = kept.take(sample_ids) if kept else None
        taken = await pool.take(sample_ids) if found is None else found
        samples = await self._run(_encoded, taken) if pool.holds_texts else taken.tobytes()
        return pb.GetSamplesResponse(dtype=pool.manifest.dtype, shape=pool.manifest.shape, samples=samples)

    async def ClusterPool(self, request: pb.ClusterPoolRequest, context: Context) -> pb.ClusterPoolResponse:
        pool = await self._pool(request.pool_sha256)
        if pool.holds_texts:
            raise _needs_features("clusters are made of values")
        planned = _checked_plan(pool, request.cluster_count)
        check_numbers(pool)
        samples = await pool.take(np.arange(pool.sample_count, dtype=np.uint32))
        work = cluster, samples, request.cluster_count, request.seed, planned
        clusters, centroids = await in_thread(self._clustering, *work)
        return pb.ClusterPoolResponse(cluster=clusters.tolist(), centroids=centroids.astype("<f4").tobytes())

    async def LearnFeatures(self, request: pb.LearnFeaturesRequest, context: Context) -> pb.LearnFeaturesResponse:
        graph = _checked_digest(request.graph_sha256, "graph_sha256") if request.graph_sha256 else ""
        pool = _checked_digest(request.pool_sha256, "pool_sha256")
        return await self._learning.learn(pool, request.seed, graph, request.method or pb.FEATURE_METHOD_PATCHES)

    async def ExtractFeatures(self, request: pb.ExtractFeaturesRequest, context: Context) -> pb.ExtractFeaturesResponse:
        digest = _checked_digest(request.features_sha256, "features_sha256")
        return await self._learning.extract(digest, request.samples)

    async def Score(self, request: pb.ScoreRequest, context: Context) -> pb.ScoreResponse:
        remaining_s = context.time_remaining()
        if remaining_s is not None and remaining_s <= 0:
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "the deadline passed before the work began")
        digest = self._newest.digest(request.run_id) if request.HasField("run_id") else request.model_sha256
        return await self._scoring.score(request, await self._model(digest), digest)

    def score_at_once(self, request: pb.ScoreRequest, context: Context) -> bytes | None:
        """Answer most calls of ``Score`` without waiting for anything; None leaves a call to :meth:`Score`.

        Raises:
            LabelloopError: What :meth:`Score` would raise.
        """
        remaining_s = context.time_remaining()
        if remaining_s is not None and remaining_s <= 0:
            return None
        digest = self._newest.digest(request.run_id) if request.HasField("run_id") else request.model_sha256
        model = self._models.at_hand(digest)
        return self._scoring.score_at_once(request, model, digest) if model else None

    async def ScoreStream(
        self, requests: AsyncIterator[pb.ScoreStreamRequest], context: Context
    ) -> AsyncIterator[pb.ScoreStreamResponse]:
        async for request in requests:
            yield pb.ScoreStreamResponse(score=await self.Score(request.score, context))

    async def _pool(self, digest: str) -> Pool:
        return await self._pools.get(_checked_digest(digest, "pool_sha256"))

    async def _seen(self, digest: str, features: str) -> Pool:
        """Return the pool, or its features by the graph ``features`` if one is named."""
        if not features:
            return await self._pool(digest)
        key = _checked_digest(digest, "pool_sha256"), _checked_digest(features, "features_sha256")
        return await self._feature_pools.get(key)

    async def _model(self, digest: str) -> Model:
        return await self._models.get(_checked_digest(digest, "model_sha256"))


def _response(ranking: Ranking) -> pb.RankPoolResponse:
    """Build the response of a ranking, some samples at a time: other threads, as the event loop's, wait for each."""
    response = pb.RankPoolResponse()
    for start in wanted(range(0, len(ranking.sample_ids), _INLINE_SAMPLES)):
        rows = slice(start, start + _INLINE_SAMPLES)
        response.sample_ids.extend(ranking.sample_ids[rows].tolist())
        response.predicted.extend(ranking.predicted[rows].tolist())
        response.confidence.extend(ranking.confidence[rows].tolist())
        response.score.extend(ranking.score[rows].tolist())
    return response


def _ids(sample_ids: Sequence[int]) -> Ids:
    """Convert ids of a message, some at a time for the same reason."""
    ids = np.empty(len(sample_ids), np.uint32)
    for start in wanted(range(0, len(ids), _INLINE_SAMPLES)):
        ids[start : start + _INLINE_SAMPLES] = sample_ids[start : start + _INLINE_SAMPLES]
    return ids


def _part(ranking: Ranking, rows: slice) -> pb.RankPoolStreamResponse:
    return pb.RankPoolStreamResponse(
        sample_count=len(ranking.sample_ids),
        sample_ids=ranking.sample_ids[rows].astype("<u4").tobytes(),
        predicted=ranking.predicted[rows].astype("<u4").tobytes(),
        confidence=ranking.confidence[rows].astype("<f4").tobytes(),
        score=ranking.score[rows].astype("<f4").tobytes(),
    )


def _check_answer(spans: Sequence[Part], question: Question, most: int) -> None:
    """Raise LimitExceeded if the ranking of ``spans`` has more than ``most`` samples."""
    held = sum(len(part.samples) for part in spans)
    if min(question.limit or held, held) <= most:
        return
    free = held - sum(question.leave_out.range_cardinality(part.first, part.end) for part in spans)
    if (asked := min(question.limit or free, free)) > most:
        message = f"{asked:,} samples are too many for one answer: ask for at most {most:,}, or by RankPoolStream"
        raise LimitExceeded("RANKING_TOO_LARGE", message, field="limit", asked=asked, most=most)


def _checked_digest(digest: str, field: str) -> str:
    """Return a well-formed digest. InvalidInput otherwise: in the store it could be a wildcard or another folder."""
    if not _DIGEST.fullmatch(digest):
        message = f"{field} is {digest!r}, not the 64 lower-case hex digits of a SHA-256"
        raise InvalidInput("BAD_DIGEST", message, field=field, digest=digest)
    return digest


def _needs_features(why: str) -> InvalidInput:
    return InvalidInput("NEEDS_FEATURES", f"{why}, which texts do not have: name features", field="features_sha256")


def _check_texts(texts: NDArray[Any]) -> None:
    characters = sum(map(len, texts))
    if characters > _TEXT_CHARACTERS_MAX:
        message = f"these {len(texts)} texts have {characters:,} characters, more than one answer holds: ask for fewer"
        raise LimitExceeded(
            "TOO_MANY_SAMPLES", message, field="sample_ids", asked=len(texts), most=_TEXT_CHARACTERS_MAX
        )


def _checked_plan(pool: Pool, cluster_count: int) -> Plan:
    """Return how to cluster a pool; raise an error if that would take too much time or memory."""
    sample_count, values = pool.sample_count, pool.sample_count * pool.sample_size
    if values > _CLUSTER_VALUES_MAX:
        message = (
            f"clusters are made of a whole pool in memory, of {_CLUSTER_VALUES_MAX:,} values at most, and this one has "
            f"{values:,}: cluster a smaller pool, such as a part of it"
        )
        raise LimitExceeded("POOL_TOO_LARGE", message, field="pool_sha256", values=values, most=_CLUSTER_VALUES_MAX)
    if not 2 <= cluster_count <= sample_count:
        message = f"the number of clusters must lie between 2 and {sample_count}, not {cluster_count}"
        raise InvalidInput("BAD_CLUSTER_COUNT", message, field="cluster_count", cluster_count=cluster_count)
    centroid_bytes = pool.sample_size * np.dtype(np.float32).itemsize
    most = min(clusters_max(sample_count, pool.sample_size), _SAMPLES_BYTES_MAX // centroid_bytes)
    planned = plan(sample_count, pool.sample_size, cluster_count)
    if cluster_count > most or planned is None:
        message = f"{cluster_count} clusters of this pool are too much work for one call: ask for at most {most}"
        raise LimitExceeded("TOO_MANY_CLUSTERS", message, field="cluster_count", asked=cluster_count, most=most)
    return planned


def _check_amount(pool: Pool, count: int) -> None:
    if pool.sample_bytes * count > _SAMPLES_BYTES_MAX:
        most = _SAMPLES_BYTES_MAX // pool.sample_bytes
        message = f"{count} samples are too many for one answer: ask for at most {most}"
        raise LimitExceeded("TOO_MANY_SAMPLES", message, field="sample_ids", asked=count, most=most)


def _may_be_sent(pool: Pool, count: int) -> bool:
    """Return whether ``count`` samples, 0 for all, are few enough to be sent along with a ranking."""
    return not pool.holds_texts and pool.sample_bytes * (count or pool.sample_count) <= _SAMPLES_ALONG_BYTES_MAX


def _encoded(texts: NDArray[Any]) -> bytes:
    _check_texts(texts)
    return encode_texts(texts)


def _bitmap(leave_out: bytes) -> BitMap:
    """Parse a bitmap, and keep it as one: a few bytes can hold four thousand million ids."""
    try:
        return BitMap.deserialize(leave_out) if leave_out else BitMap()
    except ValueError as error:
        message = f"leave_out is not a roaring bitmap in the portable serialisation: {error}"
        raise InvalidInput("BAD_BITMAP", message, field="leave_out") from error
