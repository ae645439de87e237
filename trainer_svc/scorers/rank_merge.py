"""Merge the rankings of several shards into one. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from labelloop.errors import Corrupt
from labelloop.scorer.v1.scorer_pb2 import GetSamplesResponse, RankPoolResponse
from numpy.typing import NDArray
from pyroaring import BitMap


def merge(parts: Sequence[RankPoolResponse], limit: int) -> RankPoolResponse:
    """Merge rankings that share no sample; return the first ``limit`` by (score, sample id), or all if it is 0.

    The result includes the samples themselves if every part does.
    """
    sample_ids = _joined([part.sample_ids for part in parts], np.uint32)
    score = _joined([part.score for part in parts], np.float32)
    first = np.lexsort((sample_ids, score))[: limit or None]
    predicted = _joined([part.predicted for part in parts], np.uint32)
    confidence = _joined([part.confidence for part in parts], np.float32)
    known = first if len(predicted) else first[:0]  # without a model nothing is predicted
    return RankPoolResponse(
        sample_ids=sample_ids[first].tolist(),
        predicted=predicted[known].tolist(),
        confidence=confidence[known].tolist(),
        score=score[first].tolist(),
        samples=_picked(parts, first) if all(part.HasField("samples") for part in parts) else None,
    )


def _joined(columns: Sequence[Sequence[float]], dtype: type[np.generic]) -> NDArray[Any]:
    return np.concatenate([np.array(column, dtype) for column in columns])


def _picked(parts: Sequence[RankPoolResponse], rows: NDArray[np.intp]) -> GetSamplesResponse:
    """Select rows from the samples of all parts, concatenated in order."""
    count = sum(len(part.sample_ids) for part in parts)
    flat = np.frombuffer(b"".join(part.samples.samples for part in parts), np.uint8)
    samples = flat.reshape(count, len(flat) // max(1, count))[rows].tobytes()
    return GetSamplesResponse(dtype=parts[0].samples.dtype, shape=parts[0].samples.shape, samples=samples)


def check_whole(sample_ids: Sequence[int] | NDArray[np.uint32], free: BitMap, limit: int) -> None:
    """Raise Corrupt unless the ids are ``limit`` of those in ``free``, or all if those are fewer or it is 0."""
    count = min(limit or len(free), len(free))
    if len(sample_ids) != count or free.intersection_cardinality(BitMap(sample_ids)) != count:
        message = (
            f"a scorer that was to rank {count} samples of its shards answered with {len(sample_ids)}, not all of "
            "them of those: run the same version of scorers and trainer"
        )
        raise Corrupt("BAD_RANKING", message, asked=count, answered=len(sample_ids))


def unpack(response: GetSamplesResponse) -> NDArray[Any]:
    """Decode samples ``[n, *shape]``."""
    flat = np.frombuffer(response.samples, np.dtype(response.dtype).newbyteorder("<"))
    return flat.reshape(-1, *response.shape)
