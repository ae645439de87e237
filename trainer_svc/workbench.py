"""What the trainer holds of a run between rounds, so that a round reads only what is new. All can be read again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from labelloop.events.v1.events_pb2 import PoolPublished
from labelloop.wire.artifacts import ArtifactStore
from labelloop.wire.pools import decode_evaluation
from numpy.typing import NDArray
from torch import Tensor

from trainer_svc.ranker import Ranker
from trainer_svc.run_state import Example
from trainer_svc.softmax import AdamState, with_bias
from trainer_svc.training_state import from_bytes


class EvaluationSet:
    """Features ``[n, features + 1]`` and labels ``[n]``."""

    def __init__(self, data: bytes) -> None:
        samples, labels = decode_evaluation(data)
        self.features = with_bias(samples)
        self.labels = torch.from_numpy(labels.astype(np.int64))


class EvaluationSets:
    """One copy for all runs on it."""

    def __init__(self, artifacts: ArtifactStore) -> None:
        self._artifacts = artifacts
        self._sets: dict[str, EvaluationSet] = {}

    async def get(self, digest: str) -> EvaluationSet:
        if digest not in self._sets:
            self._sets[digest] = EvaluationSet(await self._artifacts.get(digest))
        return self._sets[digest]


class Workbench:
    """The training set of one run as tensors, in order, and the newest training state."""

    def __init__(self, pool: PoolPublished, ranker: Ranker, artifacts: ArtifactStore) -> None:
        self._pool, self._ranker, self._artifacts = pool, ranker, artifacts
        self.class_count = len(pool.classes)
        self.feature_count = int(np.prod(list(pool.shape)))
        self._features = torch.empty(0, self.feature_count + 1)
        self._ids: list[int] = []
        self._state: tuple[str, AdamState] | None = None
        self._at_hand: tuple[list[int], NDArray[Any]] | None = None

    def lay_out(self, sample_ids: Sequence[int], samples: NDArray[Any]) -> None:
        """Samples ``[n, *shape]`` that the training set will soon hold."""
        self._at_hand = (list(sample_ids), samples)

    async def _read(self, sample_ids: list[int]) -> NDArray[Any]:
        at_hand, self._at_hand = self._at_hand, None
        if at_hand and at_hand[0] == sample_ids:
            return at_hand[1]
        sample_bytes = self.feature_count * np.dtype(self._pool.dtype).itemsize
        return await self._ranker.samples(self._pool.pool_sha256, sample_ids, sample_bytes)

    async def take(self, training: list[Example]) -> tuple[Tensor, Tensor]:
        """Features ``[n, features + 1]`` and labels ``[n]`` of the training set; reads the samples not yet here."""
        sample_ids = [example.sample_id for example in training]
        held = _common_length(self._ids, sample_ids)  # what was withdrawn moves all behind it
        if new := sample_ids[held:]:
            samples = await self._read(new)
            self._reserve(held, len(training))
            self._features[held : len(training)] = with_bias(samples)
        self._ids = sample_ids
        return self._features[: len(training)], torch.tensor([example.label for example in training])

    def _reserve(self, held: int, count: int) -> None:
        if count > len(self._features):
            features = torch.empty(max(count, 2 * len(self._features)), self.feature_count + 1)
            features[:held] = self._features[:held]
            self._features = features

    async def state(self, digest: str) -> AdamState:
        """The training state of that digest."""
        if self._state is None or self._state[0] != digest:
            self._state = (digest, from_bytes(await self._artifacts.get(digest)))
        return self._state[1]

    def keep(self, digest: str, state: AdamState) -> None:
        self._state = (digest, state)


def _common_length(left: Sequence[int], right: Sequence[int]) -> int:
    """How far two sequences are the same from the start on."""
    return next(
        (i for i, (one, other) in enumerate(zip(left, right, strict=False)) if one != other), min(len(left), len(right))
    )
