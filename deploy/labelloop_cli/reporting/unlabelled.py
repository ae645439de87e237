"""Rank the rest of a run's pool with its newest model, page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator

from labelloop.scorer.v1.scorer_pb2 import RankPoolRequest, RankPoolResponse, Strategy
from labelloop.trainer.v1.trainer_pb2 import RunStatus
from pyroaring import BitMap

from labelloop_cli.clients import Clients

_AT_ONCE = 1_000_000  # about 14 MB; a response may have 64 MB


async def ranked_rest(
    clients: Clients, run: RunStatus, taken: BitMap, *, at_once: int = _AT_ONCE
) -> AsyncIterator[RankPoolResponse]:
    """Yield the samples of the run's pool that are not in ``taken``, least confident first.

    Each response holds ``at_once`` samples; the last holds fewer, perhaps none.
    """
    leave_out = taken.copy()
    while True:
        request = RankPoolRequest(
            pool_sha256=run.pool.pool_sha256,
            model_sha256=run.head_sha256,
            strategy=Strategy.STRATEGY_LEAST_CONFIDENCE,
            limit=at_once,
            leave_out=leave_out.serialize(),
            features_sha256=run.features.features_sha256,
        )
        page = await clients.scorer.RankPool(request)
        yield page
        if len(page.sample_ids) < at_once:
            return
        leave_out.update(page.sample_ids)
