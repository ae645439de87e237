"""Cache the inputs of a run's fits between rounds, so that a round reads only new samples.

Everything here can be read again: from the scorers, or from the artifact store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from labelloop.artifacts.formats import decode_duplicates, decode_evaluation
from labelloop.artifacts.store import ArtifactStore
from labelloop.domain.duplicates import NO_DUPLICATES, Duplicates
from labelloop.errors import Corrupt, LimitExceeded
from labelloop.events.v1.events_pb2 import FeaturesLearned, PoolPublished
from labelloop.runtime.async_cache import AsyncCache
from labelloop.scorer.v1.scorer_pb2 import Strategy
from numpy.typing import NDArray
from pyroaring import BitMap
from torch import Tensor

from trainer_svc.domain.examples import Example
from trainer_svc.domain.spec_validation import VALUES_MAX
from trainer_svc.domain.stopping import STOP_SET_SAMPLES
from trainer_svc.domain.training_columns import ExampleColumns, TrainingColumns
from trainer_svc.model.adam_softmax import AdamState, with_bias
from trainer_svc.model.onnx_export import weights_of
from trainer_svc.model.training_state import from_bytes
from trainer_svc.scorers.client import ScorerClient
from trainer_svc.scorers.columns import Columns

_OTHER_SEED = 0x5EED  # so that the stop set differs from the first samples that a random strategy requests
_KEPT_POOLS = 64
_KEPT_SETS = 8  # of 80 MB each, with learned features and ten thousand samples


class EvaluationSets:
    """The evaluation sets in use, each held once for all runs that share it."""

    def __init__(self, scorer_client: ScorerClient, artifacts: ArtifactStore) -> None:
        self._scorer_client, self._artifacts = scorer_client, artifacts
        self._sets: AsyncCache[tuple[str, str, int], tuple[Tensor, Tensor]] = AsyncCache(self._load, kept=_KEPT_SETS)

    async def get(self, digest: str, learned: FeaturesLearned | None) -> tuple[Tensor, Tensor]:
        """Return the features ``[n, features + 1]`` and labels ``[n]`` of an evaluation set.

        Features are computed by the feature graph in ``learned``; if that is None, they are the samples themselves.

        Raises:
            LimitExceeded: If the computed features would take too much memory.
        """
        graph, feature_count = (learned.features_sha256, learned.feature_count) if learned else ("", 0)
        return await self._sets.get((digest, graph, feature_count))

    async def _load(self, key: tuple[str, str, int]) -> tuple[Tensor, Tensor]:
        digest, graph, feature_count = key
        samples, labels = await asyncio.to_thread(decode_evaluation, await self._artifacts.get(digest))
        if len(samples) * feature_count > VALUES_MAX:
            message = f"{len(samples):,} evaluation samples of {feature_count:,} features each are too many: take fewer"
            raise LimitExceeded("TOO_LARGE", message, samples=len(samples), features=feature_count)
        seen = await self._scorer_client.features(graph, samples, feature_count) if graph else samples
        return with_bias(seen), torch.from_numpy(labels.astype(np.int64))


class DuplicateSets:
    """The equal samples of the pools in use."""

    def __init__(self, artifacts: ArtifactStore) -> None:
        self._artifacts = artifacts
        self._sets: AsyncCache[tuple[str, int], Duplicates] = AsyncCache(self._load, kept=_KEPT_POOLS)

    async def get(self, pool: PoolPublished) -> Duplicates:
        """Return the equal samples of a pool. Raises NotFound or Corrupt if the artifact is missing or no such one."""
        if not pool.duplicate_count:
            return NO_DUPLICATES
        found = await self._sets.get((pool.duplicates_sha256, pool.sample_count))
        if len(found) != pool.duplicate_count:
            message = f"the artifact holds {len(found)} duplicates, not the pool's {pool.duplicate_count}"
            raise Corrupt("BAD_DUPLICATES", message, artifact=pool.duplicates_sha256)
        return found

    async def _load(self, key: tuple[str, int]) -> Duplicates:
        digest, sample_count = key
        return await asyncio.to_thread(decode_duplicates, await self._artifacts.get(digest), sample_count)


class RunCache:
    """The training set of one run as tensors, in order, and the other inputs that its fits reuse."""

    def __init__(
        self,
        pool: PoolPublished,
        learned: FeaturesLearned | None,
        scorer_client: ScorerClient,
        artifacts: ArtifactStore,
    ) -> None:
        self._pool, self._scorer_client, self._artifacts = pool, scorer_client, artifacts
        self._graph = learned.features_sha256 if learned else ""
        self.class_count = len(pool.classes)
        self.feature_count = learned.feature_count if learned else int(np.prod(list(pool.shape)))
        value_bytes = np.dtype("float32" if learned else pool.dtype).itemsize
        self._sample_bytes = self.feature_count * value_bytes
        self._features = torch.empty(0, self.feature_count + 1)
        self._columns = TrainingColumns()
        self._ids: NDArray[np.int64] = np.zeros(0, np.int64)
        self._state: tuple[str, AdamState] | None = None
        self._weights: tuple[str, Tensor] | None = None
        self._stop_set: Tensor | None = None
        self._staged: tuple[list[int], NDArray[Any]] | None = None
        self._ranked: tuple[str, Columns] | None = None

    def stage_samples(self, sample_ids: Sequence[int], samples: NDArray[Any]) -> None:
        """Keep samples ``[n, *shape]``, or their features, that will soon join the training set."""
        self._staged = (list(sample_ids), samples)

    async def _read(self, sample_ids: list[int]) -> NDArray[Any]:
        staged, self._staged = self._staged, None
        if staged and staged[0] == sample_ids:
            return staged[1]
        return await self._scorer_client.samples(self._pool.pool_sha256, sample_ids, self._sample_bytes, self._graph)

    async def rest(self, model: str, left_out: BitMap) -> Columns:
        """Rank all samples of the pool but those ``left_out``, most confident first.

        The ranking is kept, so that what is left of it later need not be ranked again: 16 bytes a sample.
        """
        if self._ranked is None or self._ranked[0] != model:
            pool, strategy = self._pool.pool_sha256, Strategy.STRATEGY_MOST_CONFIDENT
            ranked = await self._scorer_client.rank_all(pool, model, strategy, left_out, 0, features=self._graph)
            self._ranked = (model, ranked)
        ranked, is_left = self._ranked[1], np.ones(self._pool.sample_count, bool)
        is_left[np.asarray(left_out.to_array(), np.uint32)] = False
        return ranked.rows(np.flatnonzero(is_left[ranked.sample_ids]))

    async def stop_set(self, seed: int) -> Tensor:
        """Return the features ``[n, features + 1]`` of a part of the pool, drawn at random once for all rounds."""
        if self._stop_set is None:
            drawn = await self._scorer_client.rank(
                self._pool.pool_sha256, "", Strategy.STRATEGY_RANDOM, STOP_SET_SAMPLES, (), seed ^ _OTHER_SEED
            )
            wanted = list(drawn.sample_ids)
            self._stop_set = with_bias(
                await self._scorer_client.samples(self._pool.pool_sha256, wanted, self._sample_bytes, self._graph)
            )
        return self._stop_set

    async def weights(self, digest: str, dtype: str) -> Tensor:
        """Return the weights ``[classes, features + 1]`` of an exported model that takes features of ``dtype``."""
        if self._weights is None or self._weights[0] != digest:
            found = await asyncio.to_thread(weights_of, await self._artifacts.get(digest))
            if dtype == "uint8":
                found[:, :-1] *= 255
            self._weights = (digest, torch.from_numpy(found))
        return self._weights[1]

    async def take(self, training: list[Example]) -> tuple[Tensor, ExampleColumns]:
        """Return the features ``[n, features + 1]`` and the columns of the training set; read only new samples.

        ``training`` must not change later.
        """
        columns, count = self._columns.of(training), len(training)
        held = _common_length(self._ids, columns.ids)  # a withdrawn sample shifts all that follow it
        if new := columns.ids[held:].tolist():
            samples = await self._read(new)
            self._reserve(held, count)
            self._features[held:count] = with_bias(samples)
        self._ids = columns.ids
        return self._features[:count], columns

    def _reserve(self, held: int, count: int) -> None:
        if count > len(self._features):
            features = torch.empty(max(count, 2 * len(self._features)), self.feature_count + 1)
            features[:held] = self._features[:held]
            self._features = features

    async def state(self, digest: str) -> AdamState:
        """Return the training state with this digest."""
        if self._state is None or self._state[0] != digest:
            self._state = (digest, await asyncio.to_thread(from_bytes, await self._artifacts.get(digest)))
        return self._state[1]

    def keep(self, digest: str, state: AdamState) -> None:
        self._state = (digest, state)


def _common_length(left: NDArray[np.int64], right: NDArray[np.int64]) -> int:
    """Return the length of the longest common prefix of two sequences."""
    shorter = min(len(left), len(right))
    differ = np.flatnonzero(left[:shorter] != right[:shorter])
    return int(differ[0]) if len(differ) else shorter
