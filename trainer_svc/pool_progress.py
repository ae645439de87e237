"""Tell how far scorers are with fetching a pool, while a step of a run waits for them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from labelloop.errors import LabelloopError
from labelloop.eventlog.projections import RunProjections

from trainer_svc.domain.run_state import RunState
from trainer_svc.scorers.client import ScorerClient

_EVERY_S = 5.0  # nobody is asked about shorter steps

log = structlog.get_logger()


class PoolProgress:
    """Watches the steps of all runs."""

    def __init__(self, projections: RunProjections[RunState], scorers: ScorerClient, every_s: float = _EVERY_S) -> None:
        self._projections, self._scorers, self._every_s = projections, scorers, every_s
        self._steps: dict[str, tuple[str, float]] = {}

    @contextmanager
    def step(self, state: RunState) -> Iterator[None]:
        """Watch a step of a run, which the block carries out."""
        if state.pool:
            self._steps[state.run_id] = (state.pool.pool_sha256, time.monotonic())
        try:
            yield
        finally:
            self._steps.pop(state.run_id, None)
            self._projections.set_progress(state.run_id, "")

    async def follow(self) -> None:
        """Set the progress of the runs whose steps take long, forever."""
        while True:
            await asyncio.sleep(self._every_s)
            for run_id, (pool, began_s) in list(self._steps.items()):
                if time.monotonic() - began_s >= self._every_s:
                    progress = await self._progress(run_id, pool)
                    if self._steps.get(run_id) == (pool, began_s):  # it has not ended meanwhile
                        self._projections.set_progress(run_id, progress)

    async def _progress(self, run_id: str, pool: str) -> str:
        """Return how far the scorers are; empty if they have all shards, or if that is unknown."""
        try:
            shards, of_shards, samples, of_samples = await self._scorers.fetched(pool)
        except LabelloopError as error:  # the step itself is not affected
            log.warning("progress_unknown", run=run_id, problem=error.message)
            return ""
        if shards == of_shards:
            return ""
        log.info("scorers_fetch_pool", run=run_id, shards=shards, of_shards=of_shards)
        return f"the scorers fetch the pool: {shards} of {of_shards} shards, {samples:,} of {of_samples:,} samples"
