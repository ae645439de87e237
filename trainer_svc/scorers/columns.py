"""Hold a ranking of any number of samples in arrays, and put it together from parts of a stream. Pure functions."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from labelloop.errors import Corrupt
from labelloop.scorer.v1.scorer_pb2 import RankPoolResponse, RankPoolStreamResponse
from numpy.typing import NDArray


@dataclass(frozen=True)
class Columns:
    """Ranked samples, best first, in arrays of one length, 16 bytes a sample.

    ``predicted`` and ``confidence`` are empty without a model.
    """

    sample_ids: NDArray[np.uint32]
    predicted: NDArray[np.uint32]
    confidence: NDArray[np.float32]
    score: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.sample_ids)

    def rows(self, chosen: NDArray[np.intp] | slice) -> Columns:
        """Return these rows, in their order."""
        known = chosen if len(self.predicted) else slice(0)
        return Columns(self.sample_ids[chosen], self.predicted[known], self.confidence[known], self.score[chosen])


def columns_of(response: RankPoolResponse) -> Columns:
    """Convert the answer of RankPool."""
    return Columns(
        np.array(response.sample_ids, np.uint32),
        np.array(response.predicted, np.uint32),
        np.array(response.confidence, np.float32),
        np.array(response.score, np.float32),
    )


async def received(parts: AsyncIterable[RankPoolStreamResponse]) -> Columns:
    """Put the parts of one stream together.

    Raises:
        Corrupt: If they hold more or fewer samples than they say, or arrays of different lengths.
    """
    kept = [part async for part in parts]
    columns = Columns(
        _joined((part.sample_ids for part in kept), "<u4"),
        _joined((part.predicted for part in kept), "<u4"),
        _joined((part.confidence for part in kept), "<f4"),
        _joined((part.score for part in kept), "<f4"),
    )
    count = kept[0].sample_count if kept else -1
    answered = {len(columns.predicted), len(columns.confidence)}
    if {len(columns), len(columns.score)} != {count} or answered not in ({count}, {0}):
        message = (
            f"a scorer sent {len(columns)} samples of a ranking of {max(count, 0)}, or not as many answers: run the "
            "same version of scorers and trainer"
        )
        raise Corrupt("BAD_RANKING", message, asked=count, answered=len(columns))
    return columns


def _joined(buffers: Iterable[bytes], dtype: str) -> NDArray[Any]:
    try:
        return np.frombuffer(b"".join(buffers), dtype)
    except ValueError as error:
        raise Corrupt("BAD_RANKING", f"a scorer sent a part of a ranking that is cut off: {error}") from error


def merged(parts: Sequence[Columns]) -> Columns:
    """Merge rankings that share no sample into one, by (score, sample id)."""
    if len(parts) == 1:
        return parts[0]
    whole = Columns(
        np.concatenate([part.sample_ids for part in parts]),
        np.concatenate([part.predicted for part in parts]),
        np.concatenate([part.confidence for part in parts]),
        np.concatenate([part.score for part in parts]),
    )
    return whole.rows(np.lexsort((whole.sample_ids, whole.score)))
