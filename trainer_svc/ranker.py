"""The scorers, as the trainer asks them: as if there were one, with the whole pool."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from labelloop.scorer.v1.scorer_pb2 import GetSamplesRequest, RankPoolRequest, RankPoolResponse, Strategy
from labelloop.wire.artifacts import ArtifactStore
from labelloop.wire.loading import Loaded
from labelloop.wire.pools import PoolManifest
from labelloop.wire.serving import MESSAGE_BYTES_MAX
from numpy.typing import NDArray
from pyroaring import BitMap

from trainer_svc.fan_out import FanOut
from trainer_svc.merging import check_whole, merge, unpack
from trainer_svc.replicas import Replicas
from trainer_svc.sharding import Shards

_ANSWER_BYTES = MESSAGE_BYTES_MAX // 4
_KEPT = 64


class Ranker:
    """Waits for scorers that are away."""

    def __init__(self, replicas: Replicas, artifacts: ArtifactStore) -> None:
        self._replicas, self._fan_out = replicas, FanOut(replicas)

        async def load(pool: str) -> Shards:
            shards = PoolManifest.from_bytes(await artifacts.get(pool)).shards
            return Shards.of([shard.sha256 for shard in shards], [shard.sample_count for shard in shards])

        self._shards = Loaded(load, kept=_KEPT)

    async def _shards_of(self, pool: str) -> Shards:
        """One scorer is asked for all of a pool at once; several need to know what there is to share out."""
        return Shards.undivided(pool) if len(await self._replicas.known()) == 1 else await self._shards.get(pool)

    async def rank(
        self, pool: str, model: str, strategy: Strategy.ValueType, limit: int, leave_out: Iterable[int], seed: int
    ) -> RankPoolResponse:
        """The first ``limit`` samples of the pool, best first, with their values."""
        shards, asked = await self._shards_of(pool), BitMap(leave_out)
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
            )

        answers = await self._fan_out.ask("RankPool", dict(enumerate(shards.digests)), question)
        if len(answers) == 1:
            ranked: RankPoolResponse = answers[0][1]
            return ranked
        for places, part in answers:
            check_whole(part, shards.free_ids(places, asked), limit)
        return merge([part for _, part in answers], limit)

    async def samples(self, pool: str, sample_ids: Sequence[int], sample_bytes: int) -> NDArray[Any]:
        """Samples ``[n, *shape]``, of ``sample_bytes`` each, in the order of ``sample_ids``."""
        most = max(1, _ANSWER_BYTES // sample_bytes)
        batches = [sample_ids[start : start + most] for start in range(0, len(sample_ids), most)]
        return np.concatenate([await self._batch(pool, batch) for batch in batches])

    async def _batch(self, pool: str, sample_ids: Sequence[int]) -> NDArray[Any]:
        shards = await self._shards_of(pool)
        ids, held_in = np.asarray(sample_ids), shards.places(sample_ids)

        def question(places: Sequence[int]) -> GetSamplesRequest:
            return GetSamplesRequest(pool_sha256=pool, sample_ids=ids[np.isin(held_in, places)].tolist())

        keys = {place: shards.digests[place] for place in np.unique(held_in).tolist()}
        answers = await self._fan_out.ask("GetSamples", keys, question)
        if len(answers) == 1:
            return unpack(answers[0][1])
        parts = [(np.isin(held_in, places), unpack(answer)) for places, answer in answers]
        samples = np.empty((len(ids), *parts[0][1].shape[1:]), parts[0][1].dtype)
        for rows, part in parts:
            samples[rows] = part
        return samples
