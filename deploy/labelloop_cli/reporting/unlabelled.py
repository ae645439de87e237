"""Rank the rest of a run's pool with its newest model, in parts."""

from __future__ import annotations

import sys
from array import array
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from labelloop.scorer.v1.scorer_pb2 import (
    RankPoolRequest,
    RankPoolResponse,
    RankPoolStreamRequest,
    RankPoolStreamResponse,
    Strategy,
)
from labelloop.trainer.v1.trainer_pb2 import RunStatus
from pyroaring import BitMap

from labelloop_cli.clients import Clients

_AT_ONCE = 1_000_000  # about 14 MB; a response may have 64 MB


@dataclass(frozen=True)
class RankedPart:
    """Consecutive samples of a ranking, with the class that the model predicts of each and how sure it is.

    All three take four bytes a sample.
    """

    sample_ids: Sequence[int]
    predicted: Sequence[int]
    confidence: Sequence[float]


async def ranked_rest(
    clients: Clients, run: RunStatus, taken: BitMap, *, at_once: int = _AT_ONCE
) -> AsyncIterator[RankedPart]:
    """Yield the samples of the run's pool that are not in ``taken``, least confident first.

    A scorer of an earlier release cannot send them as a stream: it is asked for ``at_once`` samples again and again,
    and ranks the pool each time.
    """
    request = RankPoolRequest(
        pool_sha256=run.pool.pool_sha256,
        model_sha256=run.head_sha256,
        strategy=Strategy.STRATEGY_LEAST_CONFIDENCE,
        leave_out=taken.serialize(),
        features_sha256=run.features.features_sha256,
    )
    try:
        async for part in clients.scorer.RankPoolStream(RankPoolStreamRequest(ranking=request)):
            yield _part(part)
    except grpc.aio.AioRpcError as error:
        if error.code() != grpc.StatusCode.UNIMPLEMENTED:
            raise
        async for page in _pages(clients, request, taken.copy(), at_once):
            yield RankedPart(page.sample_ids, page.predicted, page.confidence)


def _part(part: RankPoolStreamResponse) -> RankedPart:
    return RankedPart(_array("I", part.sample_ids), _array("I", part.predicted), _array("f", part.confidence))


def _array(kind: str, data: bytes) -> Sequence[Any]:
    values = array(kind, data)
    if sys.byteorder == "big":  # data is little-endian
        values.byteswap()
    return values


async def _pages(
    clients: Clients, request: RankPoolRequest, leave_out: BitMap, at_once: int
) -> AsyncIterator[RankPoolResponse]:
    request.limit = at_once
    while True:
        request.leave_out = leave_out.serialize()
        page = await clients.scorer.RankPool(request)
        yield page
        if len(page.sample_ids) < at_once:
            return
        leave_out.update(page.sample_ids)
