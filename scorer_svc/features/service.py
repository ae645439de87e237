"""Learn features from pools, and extract the features of posted samples."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from labelloop.artifacts.texts import decode_texts
from labelloop.domain.limits import LEARN_FROM_CHARACTERS, LEARN_FROM_SAMPLES, TEXT_DTYPE
from labelloop.errors import Corrupt, InvalidInput
from labelloop.runtime.async_cache import AsyncCache
from labelloop.runtime.threads import in_thread
from labelloop.scorer.v1 import scorer_pb2 as pb
from numpy.typing import NDArray

from scorer_svc.features.patches import learn_patches
from scorer_svc.features.pool import check_finite, check_graph
from scorer_svc.features.scattering import learn_scattering
from scorer_svc.features.standardized import learn_standardized
from scorer_svc.features.texts import learn_texts
from scorer_svc.models.graph import Graph
from scorer_svc.models.running import stoppable
from scorer_svc.pools.pool import Pool

_KEPT = 4
_LEARN_FROM_BYTES = 128 * 1024 * 1024
_TEXTS_AT_ONCE = 10_000
_TRIED_SAMPLES = 10


class LearnedFeatures(NamedTuple):
    """What to learn, from which pool and seed; the cache key of learned features."""

    pool: str
    seed: int
    method: pb.FeatureMethod.ValueType


class FeatureService:
    """Learns and applies feature graphs; ``executor`` does the work.

    Learned graphs are cached. Work ends when nobody waits for it any more.
    """

    def __init__(self, pools: AsyncCache[str, Pool], graphs: AsyncCache[str, Graph], executor: Executor) -> None:
        self._pools, self._graphs, self._executor = pools, graphs, executor
        self._learned: AsyncCache[LearnedFeatures, bytes] = AsyncCache(self._learn, kept=_KEPT)

    async def learn(
        self, pool: str, seed: int, graph: str, method: pb.FeatureMethod.ValueType = pb.FEATURE_METHOD_PATCHES
    ) -> pb.LearnFeaturesResponse:
        """Return the graph ``graph`` if it fits the pool, or learn one if none is named: that of ``method``.

        InvalidInput if the graph does not fit, or if nothing can be learned from the pool.
        """
        if graph:
            given = await self._graphs.get(graph)
            samples = await self._pools.get(pool)
            check_graph(given, samples)
            first = np.arange(min(_TRIED_SAMPLES, samples.sample_count), dtype=np.uint32)
            check_finite(await self._run(given, await samples.take(first)))
            return pb.LearnFeaturesResponse(graph=given.data, feature_count=given.answer_count)
        if method not in pb.FeatureMethod.values():
            raise InvalidInput("UNKNOWN_METHOD", f"{method} is no kind of features", field="method")
        data = await self._learned.get(LearnedFeatures(pool, seed, method))
        learned = await in_thread(None, _opened, data)
        return pb.LearnFeaturesResponse(graph=data, feature_count=learned.answer_count)

    async def extract(self, graph: str, samples: bytes) -> pb.ExtractFeaturesResponse:
        """Compute the features of posted samples. InvalidInput if they are not what the graph takes."""
        known = await self._graphs.get(graph)
        texts = known.dtype == TEXT_DTYPE
        posted = await asyncio.to_thread(_posted_texts, samples) if texts else _posted(known, samples)
        features = await self._run(known, posted)
        check_finite(features)
        return pb.ExtractFeaturesResponse(features=features.astype("<f4", copy=False).tobytes())

    async def _run(self, graph: Graph, samples: NDArray[Any]) -> NDArray[np.float32]:
        return await stoppable(self._executor, graph.answers, samples)

    async def _learn(self, wanted: LearnedFeatures) -> bytes:
        pool = await self._pools.get(wanted.pool)
        count = min(LEARN_FROM_SAMPLES, _LEARN_FROM_BYTES // max(1, pool.sample_bytes) or 1, pool.sample_count)
        rng = np.random.default_rng(wanted.seed)
        drawn = np.sort(rng.choice(pool.sample_count, count, replace=False)).astype(np.uint32)
        samples = await pool.take(drawn)
        if pool.holds_texts:
            work = partial(learn_texts, _some_of(samples, rng).tolist(), wanted.seed)
        elif wanted.method == pb.FEATURE_METHOD_STANDARDIZED:
            work = partial(learn_standardized, samples, pool.layout)
        elif wanted.method == pb.FEATURE_METHOD_SCATTERING:
            work = partial(learn_scattering, samples, wanted.seed, pool.layout)
        else:
            work = partial(learn_patches, samples, wanted.seed, pool.layout)
        try:
            return await in_thread(self._executor, work)
        except ValueError as error:
            message = f"no features can be learned from this pool: {error}"
            raise InvalidInput("NOTHING_TO_LEARN", message, field="pool_sha256") from error


def _posted(graph: Graph, samples: bytes) -> NDArray[Any]:
    """Return posted samples ``[n, values]``. InvalidInput if they are not a whole number of samples."""
    dtype = np.dtype(graph.dtype).newbyteorder("<")
    rows, rest = divmod(len(samples), graph.feature_count * dtype.itemsize)
    if rest or not rows:
        message = (
            f"samples holds {len(samples)} bytes, which is no whole number of samples of {graph.feature_count} "
            f"values of {graph.dtype}"
        )
        raise InvalidInput("BAD_SAMPLES", message, field="samples", size=len(samples))
    return np.frombuffer(samples, dtype).reshape(rows, -1)


def _posted_texts(samples: bytes) -> NDArray[Any]:
    """Return posted texts ``[n]``. InvalidInput if they are none, or too many."""
    try:
        texts = decode_texts(samples)
    except Corrupt as error:
        raise InvalidInput("BAD_SAMPLES", f"samples: {error.message}", field="samples", size=len(samples)) from error
    if not 1 <= len(texts) <= _TEXTS_AT_ONCE:
        message = f"samples holds {len(texts):,} texts: post 1 to {_TEXTS_AT_ONCE:,}"
        raise InvalidInput("BAD_SAMPLES", message, field="samples", texts=len(texts))
    return texts


def _some_of(texts: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    """Return texts ``[n]``, or as many of them, drawn at random, as hold the characters that are learned from."""
    order = rng.permutation(len(texts))
    characters = np.cumsum([len(texts[index]) for index in order])
    count = max(1, int(np.searchsorted(characters, LEARN_FROM_CHARACTERS, side="right")))
    return texts[np.sort(order[:count])]


def _opened(data: bytes) -> Graph:
    return Graph(data, "learned", field="features_sha256")
