"""Load each new model into memory before the first request for it.

A model that cannot be loaded is reported as what holds up its run, and tried again until it can.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import structlog
from labelloop.domain.hold_ups import HoldUp
from labelloop.domain.run_log import RunLog
from labelloop.errors import LabelloopError, NotFound
from labelloop.eventlog.log import EventLog
from labelloop.eventlog.log_snapshots import LogSnapshots
from labelloop.eventlog.projections import RunProjections
from labelloop.events.v1.events_pb2 import Event
from labelloop.observability import metrics, tracing
from labelloop.runtime.async_cache import AsyncCache
from labelloop.runtime.waiting import WAITS
from structlog.contextvars import bound_contextvars

from scorer_svc.metrics import models_in_use
from scorer_svc.models.latest import MODELS, LatestModel, model_of
from scorer_svc.models.model import Model

SERVICE = "scorer"
_AGAIN_S = 15.0
_AT_THE_START = 32  # half of the models that the cache keeps

log = structlog.get_logger()


class ModelWarmup:
    """Loads the newest model of each run. A run switches to it once it is in memory, so that no request waits."""

    def __init__(self, events: EventLog, models: AsyncCache[str, Model]) -> None:
        self._events, self._models = events, models
        self._arrivals: asyncio.Queue[LatestModel] = asyncio.Queue()
        self._failed: dict[str, HoldUp] = {}
        self._projections = RunProjections(self._begin, model_of)
        metrics.watch(self._projections, models_in_use)

    def _begin(self, event: Event, at: datetime) -> LatestModel:
        return LatestModel(RunLog(event.run_started), event.run_id, self._arrivals.put_nowait)

    @property
    def projections(self) -> RunProjections[LatestModel]:
        """The runs and their models."""
        return self._projections

    def snapshots(self, folder: Path) -> LogSnapshots:
        """Return the snapshots in ``folder`` of what is read of the log."""
        return LogSnapshots(folder, "scorer", self._events, self._projections, MODELS)

    async def follow(self) -> None:
        """Follow the event log, forever."""
        await self._projections.follow(self._events)

    async def catch_up(self) -> None:
        """Return once all current events are read and the newest models of active runs are in memory.

        Only models of the runs started last are loaded; the others are loaded by the first request for them.
        """
        await self._projections.wait_for(await self._events.last_sequence())
        while not self._arrivals.empty():
            self._arrivals.get_nowait()
        going = [run for run in self._projections.runs.going() if run.model_sha256]
        for run in going[-_AT_THE_START:]:
            await self._load(run)
        metrics.set_down_computed()

    async def warm(self) -> None:
        """Load new models as they appear, and those that failed again, forever."""
        while True:
            if run := await self._next():
                await self._load(run)
                metrics.set_down_computed()
            else:
                await self._load_failed()

    async def _next(self) -> LatestModel | None:
        """Return the next run that changed; None if it is time to load again what failed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_AGAIN_S if self._failed else None):
                return await self._arrivals.get()
        return None

    async def _load_failed(self) -> None:
        for run_id in list(self._failed):
            if self._projections.runs.is_going(run_id):
                await self._try(run_id, self._projections.get(run_id).model_sha256)
            else:
                del self._failed[run_id]

    def hold_ups(self) -> list[HoldUp]:
        """Return which runs have a model that this scorer cannot load, and what it waits for.

        Calls do not say which run they are for. What the scorer waits for is reported of all runs that do not wait for
        labels.
        """
        going = self._projections.runs.going()
        failed = [self._failed[run.run_id] for run in going if run.run_id in self._failed]
        waits = WAITS.began().items()
        working = [run.run_id for run in going if waits and run.pool and not run.run_log.open]
        return [*failed, *(HoldUp(SERVICE, text, at, run_id) for run_id in working for text, at in waits)]

    async def _load(self, run: LatestModel) -> None:
        digest = run.model_sha256
        if digest == run.served:
            return
        carrier = self._projections.carriers.get(run.run_id, {})
        with bound_contextvars(run=run.run_id, round=run.round), tracing.span("warm", carrier, run=run.run_id):
            await self._try(run.run_id, digest)
        run.served = digest

    async def _try(self, run_id: str, digest: str) -> None:
        try:
            await self._models.get(digest)
        except LabelloopError as error:  # a request for it gets the same error and handles it
            log.warning("warmup_failed", problem=error.message)
            problem = f"the run's model answers no request: {error.message}"
            since = self._failed[run_id].since if run_id in self._failed else time.time()
            self._failed[run_id] = HoldUp(SERVICE, problem, since, run_id)
        else:
            self._failed.pop(run_id, None)

    def digest(self, run_id: str) -> str:
        """Return the model that answers for a run.

        Raises:
            NotFound: If there is no such run, or no model of it yet.
            WrongState: If the run was deleted.
        """
        if archived := self._projections.archived.readable(run_id):
            return _named(run_id, archived.facts.model_sha256)
        if run_id not in self._projections.runs:
            self._projections.get(run_id)  # says why there is none
        [served] = self._projections.runs.each(_served, str, [run_id])
        return _named(run_id, served)


def _served(run: LatestModel) -> str:
    """Return the model that answers for a run; empty if it has none yet. From then on, that model does."""
    run.served = run.served or run.model_sha256
    return run.served


def _named(run_id: str, digest: str) -> str:
    """Return ``digest``; raise NotFound if it is empty."""
    if not digest:
        message = f"run {run_id!r} has no model yet: ask again once it has been trained"
        raise NotFound("NO_MODEL_YET", message, run_id=run_id)
    return digest
