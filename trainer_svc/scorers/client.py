"""Call the scorer replicas as if they were one scorer that holds the whole pool."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import grpc
import numpy as np
from google.protobuf.message import Message
from labelloop.artifacts.formats import PoolManifest
from labelloop.artifacts.store import ArtifactStore
from labelloop.artifacts.texts import OFFSET_BYTES, encode_texts
from labelloop.domain.limits import TEXT_DTYPE
from labelloop.domain.strategies import CHOOSE_TOGETHER
from labelloop.errors import WrongState
from labelloop.rpc.server import MESSAGE_BYTES_MAX, REQUEST_BYTES_MAX
from labelloop.runtime.async_cache import AsyncCache
from labelloop.scorer.v1.scorer_pb2 import (
    ExtractFeaturesRequest,
    ExtractFeaturesResponse,
    FeatureMethod,
    GetSamplesRequest,
    LearnFeaturesRequest,
    LearnFeaturesResponse,
    RankPoolRequest,
    RankPoolResponse,
    RankPoolStreamRequest,
    Strategy,
)
from numpy.typing import NDArray
from pyroaring import BitMap

from trainer_svc.scorers.channels import ScorerChannels
from trainer_svc.scorers.columns import Columns, columns_of, merged, received
from trainer_svc.scorers.fan_out import LONG_CALL_TIMEOUT_S, Answers, FanOut, Receive
from trainer_svc.scorers.rank_merge import check_whole, merge, unpack
from trainer_svc.scorers.sharding import Shards

_ANSWER_BYTES = MESSAGE_BYTES_MAX // 4
_REQUEST_BYTES = REQUEST_BYTES_MAX // 2
_READ_AT_ONCE = 1_000_000  # samples: their ids fit into a request, however small the samples are
_EXTRACTED_AT_ONCE = 500  # samples: a second or less
_EXTRACTIONS_AT_ONCE = 8  # calls: a scorer has several cores for them
_KEPT = 64
_READ_BYTES_S = 20e6  # of a pool that a scorer has to fetch: the slowest store that is waited for
_ONE_MESSAGE_SAMPLES = 4_000_000  # ranked samples


@dataclass(frozen=True)
class Wanted:
    """A ranking to ask for; see :meth:`ScorerClient.rank`."""

    pool: str
    model: str
    strategy: Strategy.ValueType
    limit: int
    leave_out: BitMap
    seed: int
    features: str
    with_samples: bool

    def request(self, places: Sequence[int]) -> RankPoolRequest:
        """Build the request about these shards; about all if none is named."""
        return RankPoolRequest(
            pool_sha256=self.pool,
            model_sha256=self.model,
            strategy=self.strategy,
            limit=self.limit,
            leave_out=self._left_out,
            seed=self.seed,
            with_samples=self.with_samples,
            shards=places,
            features_sha256=self.features,
        )

    def streamed(self, places: Sequence[int]) -> RankPoolStreamRequest:
        return RankPoolStreamRequest(ranking=self.request(places))

    @cached_property
    def _left_out(self) -> bytes:
        data: bytes = self.leave_out.serialize()
        return data


class ScorerClient:
    """The trainer's client for all scorers. Its calls wait for scorers that are away."""

    def __init__(self, replicas: ScorerChannels, artifacts: ArtifactStore) -> None:
        self._replicas, self._fan_out = replicas, FanOut(replicas)

        async def load(pool: str) -> Shards:
            manifest = await asyncio.to_thread(PoolManifest.from_bytes, await artifacts.get(pool))
            shards = manifest.shards
            sample_bytes = 0 if manifest.dtype == TEXT_DTYPE else np.dtype(manifest.dtype).itemsize
            size = manifest.sample_count * math.prod(manifest.shape) * sample_bytes
            return Shards.of([shard.sha256 for shard in shards], [shard.sample_count for shard in shards], size)

        self._shards = AsyncCache(load, kept=_KEPT)

    async def _shards_of(self, pool: str) -> Shards:
        """Return the shards of a pool, to distribute over several scorers; a single scorer gets the pool undivided."""
        shards = await self._shards.get(pool)
        return shards.undivided(pool) if len(await self._replicas.known()) == 1 else shards

    async def fetched(self, pool: str) -> tuple[int, int, int, int]:
        """Return how many shards of a pool any scorer has fetched, of how many, and the same for samples."""
        shards, held = await self._shards.get(pool), await self._fan_out.fetched(pool)
        counts = np.diff(shards.ends, prepend=0)
        done = [place for place in range(len(counts)) if place in held]
        return len(done), len(counts), int(counts[done].sum()), int(counts.sum())

    async def rank(
        self,
        pool: str,
        model: str,
        strategy: Strategy.ValueType,
        limit: int,
        leave_out: Iterable[int],
        seed: int,
        *,
        features: str = "",
        with_samples: bool = True,
    ) -> RankPoolResponse:
        """Rank the samples of a pool by a strategy, best first.

        Args:
            pool: Digest of the pool's manifest.
            model: Digest of the model; empty for strategies that need none.
            strategy: How to rank. A strategy that chooses a batch together ranks on one scorer.
            limit: Number of samples to return, at most; 0 for all, see :meth:`rank_all`.
            leave_out: Samples to leave out.
            seed: Seed of the strategy's random choices.
            features: Digest of the feature graph; empty if the model takes the samples themselves.
            with_samples: Whether to return the samples too.

        Returns:
            The first ``limit`` samples and their values or features, which are unset if they are too large to send.

        Raises:
            Corrupt: If one of several scorers ranks other samples than it was asked to.
        """
        ranking = Wanted(pool, model, strategy, limit, BitMap(leave_out), seed, features, with_samples)
        shards = await self._shards_for(ranking)
        answers = await self._ask_all("RankPool", shards, ranking.request, shards.size)
        if len(answers) == 1:
            ranked: RankPoolResponse = answers[0][1]
            return ranked
        for places, part in answers:
            check_whole(part.sample_ids, shards.free_ids(places, ranking.leave_out), limit)
        return merge([part for _, part in answers], limit)

    async def rank_all(
        self,
        pool: str,
        model: str,
        strategy: Strategy.ValueType,
        leave_out: Iterable[int],
        seed: int,
        *,
        features: str = "",
    ) -> Columns:
        """Rank all samples of a pool but those in ``leave_out``, however many they are, as :meth:`rank` does.

        Raises:
            Corrupt: If a scorer ranks other samples than it was asked to.
            WrongState: If there are too many for a scorer that has no RankPoolStream.
        """
        ranking = Wanted(pool, model, strategy, 0, BitMap(leave_out), seed, features, with_samples=False)
        shards = await self._shards_for(ranking)
        try:
            answers = await self._ask_all("RankPoolStream", shards, ranking.streamed, shards.size, receive=received)
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.UNIMPLEMENTED:
                raise
            answers = await self._by_older_scorers(shards, ranking)
        return await asyncio.to_thread(_whole, answers, shards, ranking.leave_out)

    async def _by_older_scorers(self, shards: Shards, ranking: Wanted) -> Answers:
        """Ask by RankPool, which takes one message: of scorers that have no RankPoolStream yet."""
        count = len(shards.free_ids(range(len(shards.digests)), ranking.leave_out))
        if count > _ONE_MESSAGE_SAMPLES:
            message = f"a scorer is too old to rank {count:,} samples: run the same version of scorers and trainer"
            raise WrongState("SCORER_TOO_OLD", message, asked=count, most=_ONE_MESSAGE_SAMPLES)
        answers = await self._ask_all("RankPool", shards, ranking.request, shards.size)
        return [(places, columns_of(part)) for places, part in answers]

    async def _shards_for(self, ranking: Wanted) -> Shards:
        """Return the shards among which a ranking is distributed: one for a strategy that chooses a batch together."""
        if ranking.strategy in CHOOSE_TOGETHER:
            return (await self._shards.get(ranking.pool)).undivided(ranking.pool)
        return await self._shards_of(ranking.pool)

    async def _ask_all(
        self,
        method: str,
        shards: Shards,
        request: Callable[[Sequence[int]], Message],
        size: int,
        receive: Receive | None = None,
    ) -> Answers:
        """Ask about all shards; the larger the pool, the longer a call may take.

        What is computed lasts as long as its call, so that a call that chooses a batch or computes features must not
        end before.
        """

        def question(places: Sequence[int]) -> Message:
            return request(places if len(places) < len(shards.digests) else ())

        keys, timeout_s = dict(enumerate(shards.digests)), LONG_CALL_TIMEOUT_S + size / _READ_BYTES_S
        return await self._fan_out.ask(method, keys, question, timeout_s=timeout_s, receive=receive)

    async def learn(
        self, pool: str, seed: int, graph: str, method: FeatureMethod.ValueType = FeatureMethod.FEATURE_METHOD_PATCHES
    ) -> LearnFeaturesResponse:
        """Learn a feature graph from a pool, or check the one with the digest ``graph`` if that is not empty."""
        request = LearnFeaturesRequest(pool_sha256=pool, seed=seed, graph_sha256=graph, method=method)
        [(_, learned)] = await self._fan_out.ask(
            "LearnFeatures", {0: pool}, lambda _: request, timeout_s=LONG_CALL_TIMEOUT_S
        )
        assert isinstance(learned, LearnFeaturesResponse)
        return learned

    async def features(self, graph: str, samples: NDArray[Any], feature_count: int) -> NDArray[np.float32]:
        """Compute the features ``[n, feature_count]`` of samples ``[n, *shape]`` or texts ``[n]``, at least one."""
        sample_bytes = max(_text_bytes(text) for text in samples) if samples.dtype == object else samples[0].nbytes
        fit_in = (_REQUEST_BYTES // sample_bytes, _ANSWER_BYTES // (4 * feature_count), _EXTRACTED_AT_ONCE)
        most = max(1, min(fit_in))
        turns = asyncio.Semaphore(_EXTRACTIONS_AT_ONCE)

        async def extract(some: NDArray[Any]) -> NDArray[np.float32]:
            async with turns:
                request = ExtractFeaturesRequest(features_sha256=graph, samples=_encoded(some))
                [(_, answer)] = await self._fan_out.ask("ExtractFeatures", {0: graph}, lambda _: request)
            assert isinstance(answer, ExtractFeaturesResponse)
            return np.frombuffer(answer.features, "<f4").reshape(len(some), -1)

        parts = [extract(samples[start : start + most]) for start in range(0, len(samples), most)]
        return np.concatenate(await asyncio.gather(*parts))

    async def samples(
        self, pool: str, sample_ids: Sequence[int], sample_bytes: int, features: str = ""
    ) -> NDArray[Any]:
        """Read samples ``[n, *shape]``, or their features, of ``sample_bytes`` each, in the order of ``sample_ids``."""
        most = max(1, min(_ANSWER_BYTES // sample_bytes, _READ_AT_ONCE))
        batches = [sample_ids[start : start + most] for start in range(0, len(sample_ids), most)]
        return np.concatenate([await self._batch(pool, batch, features) for batch in batches])

    async def _batch(self, pool: str, sample_ids: Sequence[int], features: str) -> NDArray[Any]:
        shards = await self._shards_of(pool)
        ids, held_in = np.asarray(sample_ids), shards.places(sample_ids)

        def question(places: Sequence[int]) -> GetSamplesRequest:
            wanted = ids[np.isin(held_in, places)].tolist()
            return GetSamplesRequest(pool_sha256=pool, sample_ids=wanted, features_sha256=features)

        keys = {place: shards.digests[place] for place in np.unique(held_in).tolist()}
        timeout_s = LONG_CALL_TIMEOUT_S + shards.size / _READ_BYTES_S
        answers = await self._fan_out.ask("GetSamples", keys, question, timeout_s=timeout_s)
        if len(answers) == 1:
            return unpack(answers[0][1])
        parts = [(np.isin(held_in, places), unpack(answer)) for places, answer in answers]
        samples = np.empty((len(ids), *parts[0][1].shape[1:]), parts[0][1].dtype)
        for rows, part in parts:
            samples[rows] = part
        return samples


def _whole(answers: Answers, shards: Shards, leave_out: BitMap) -> Columns:
    for places, part in answers:
        check_whole(part.sample_ids, shards.free_ids(places, leave_out), 0)
    return merged([part for _, part in answers])


def _text_bytes(text: str) -> int:
    """Return the most bytes that a text takes when encoded."""
    return 4 * len(text) + 2 * OFFSET_BYTES


def _encoded(samples: NDArray[Any]) -> bytes:
    return encode_texts(samples) if samples.dtype == object else np.ascontiguousarray(samples).tobytes()
