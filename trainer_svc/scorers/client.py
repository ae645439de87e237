"""Call the scorer replicas as if they were one scorer that holds the whole pool."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from labelloop.artifacts.formats import PoolManifest
from labelloop.artifacts.store import ArtifactStore
from labelloop.artifacts.texts import OFFSET_BYTES, encode_texts
from labelloop.domain.strategies import CHOOSE_TOGETHER
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
    Strategy,
)
from numpy.typing import NDArray
from pyroaring import BitMap

from trainer_svc.scorers.channels import ScorerChannels
from trainer_svc.scorers.fan_out import FanOut
from trainer_svc.scorers.rank_merge import check_whole, merge, unpack
from trainer_svc.scorers.sharding import Shards

_ANSWER_BYTES = MESSAGE_BYTES_MAX // 4
_REQUEST_BYTES = REQUEST_BYTES_MAX // 2
_READ_AT_ONCE = 1_000_000  # samples: their ids fit into a request, however small the samples are
_EXTRACTED_AT_ONCE = 500  # samples: a second or less
_EXTRACTIONS_AT_ONCE = 8  # calls: a scorer has several cores for them
_KEPT = 64


class ScorerClient:
    """The trainer's client for all scorers. Its calls wait for scorers that are away."""

    def __init__(self, replicas: ScorerChannels, artifacts: ArtifactStore) -> None:
        self._replicas, self._fan_out = replicas, FanOut(replicas)

        async def load(pool: str) -> Shards:
            shards = PoolManifest.from_bytes(await artifacts.get(pool)).shards
            return Shards.of([shard.sha256 for shard in shards], [shard.sample_count for shard in shards])

        self._shards = AsyncCache(load, kept=_KEPT)

    async def _shards_of(self, pool: str) -> Shards:
        """Return the shards of a pool, to distribute over several scorers; a single scorer gets the pool undivided."""
        return Shards.undivided(pool) if len(await self._replicas.known()) == 1 else await self._shards.get(pool)

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
    ) -> RankPoolResponse:
        """Rank the samples of a pool by a strategy, best first.

        Args:
            pool: Digest of the pool's manifest.
            model: Digest of the model; empty for strategies that need none.
            strategy: How to rank. A strategy that chooses a batch together ranks on one scorer.
            limit: Number of samples to return, at most; 0 for all.
            leave_out: Samples to leave out.
            seed: Seed of the strategy's random choices.
            features: Digest of the feature graph; empty if the model takes the samples themselves.

        Returns:
            The first ``limit`` samples and their values or features, which are unset if they are too large to send.

        Raises:
            Corrupt: If one of several scorers ranks other samples than it was asked to.
        """
        together = strategy in CHOOSE_TOGETHER
        shards = Shards.undivided(pool) if together else await self._shards_of(pool)
        asked = BitMap(leave_out)
        left_out = asked.serialize()

        def question(places: Sequence[int]) -> RankPoolRequest:
            return RankPoolRequest(
                pool_sha256=pool,
                model_sha256=model,
                strategy=strategy,
                limit=limit,
                leave_out=left_out,
                seed=seed,
                with_samples=True,
                shards=places if len(places) < len(shards.digests) else (),
                features_sha256=features,
            )

        answers = await self._fan_out.ask("RankPool", dict(enumerate(shards.digests)), question)
        if len(answers) == 1:
            ranked: RankPoolResponse = answers[0][1]
            return ranked
        for places, part in answers:
            check_whole(part, shards.free_ids(places, asked), limit)
        return merge([part for _, part in answers], limit)

    async def learn(
        self, pool: str, seed: int, graph: str, method: FeatureMethod.ValueType = FeatureMethod.FEATURE_METHOD_PATCHES
    ) -> LearnFeaturesResponse:
        """Learn a feature graph from a pool, or check the one with the digest ``graph`` if that is not empty."""
        request = LearnFeaturesRequest(pool_sha256=pool, seed=seed, graph_sha256=graph, method=method)
        [(_, learned)] = await self._fan_out.ask("LearnFeatures", {0: pool}, lambda _: request)
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
        answers = await self._fan_out.ask("GetSamples", keys, question)
        if len(answers) == 1:
            return unpack(answers[0][1])
        parts = [(np.isin(held_in, places), unpack(answer)) for places, answer in answers]
        samples = np.empty((len(ids), *parts[0][1].shape[1:]), parts[0][1].dtype)
        for rows, part in parts:
            samples[rows] = part
        return samples


def _text_bytes(text: str) -> int:
    """Return the most bytes that a text takes when encoded."""
    return 4 * len(text) + 2 * OFFSET_BYTES


def _encoded(samples: NDArray[Any]) -> bytes:
    return encode_texts(samples) if samples.dtype == object else np.ascontiguousarray(samples).tobytes()
