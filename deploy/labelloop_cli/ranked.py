"""What a run's newest model says of a pool."""

from __future__ import annotations

from collections.abc import AsyncIterator

from labelloop.scorer.v1.scorer_pb2 import RankPoolRequest, RankPoolResponse, Strategy
from labelloop.trainer.v1.trainer_pb2 import RunStatus
from pyroaring import BitMap

from labelloop_cli.clients import Clients

_AT_ONCE = 1_000_000  # 14 MB or so: an answer may have 64


async def ranked_rest(
    clients: Clients, run: RunStatus, taken: BitMap, *, at_once: int = _AT_ONCE
) -> AsyncIterator[RankPoolResponse]:
    """The samples of the run's pool that are not in ``taken``, least confident first, in answers of ``at_once``; the
    last is not full."""
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
