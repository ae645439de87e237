"""Load each new model into memory before the first request for it."""

from __future__ import annotations

import asyncio
from datetime import datetime
from pathlib import Path

import structlog
from labelloop.domain.run_log import RunLog
from labelloop.errors import LabelloopError, NotFound
from labelloop.eventlog.log import EventLog
from labelloop.eventlog.log_snapshots import LogSnapshots
from labelloop.eventlog.projections import RunProjections
from labelloop.events.v1.events_pb2 import Event
from labelloop.observability import metrics, tracing
from labelloop.runtime.async_cache import AsyncCache
from structlog.contextvars import bound_contextvars

from scorer_svc.metrics import models_in_use
from scorer_svc.models.latest import MODELS, LatestModel, model_of
from scorer_svc.models.model import Model

_AT_THE_START = 32  # half of the models that the cache keeps

log = structlog.get_logger()


class ModelWarmup:
    """Loads the newest model of each run. A run switches to it once it is in memory, so that no request waits."""

    def __init__(self, events: EventLog, models: AsyncCache[str, Model]) -> None:
        self._events, self._models = events, models
        self._arrivals: asyncio.Queue[LatestModel] = asyncio.Queue()
        self._projections = RunProjections(self._begin, model_of)
        metrics.watch(self._projections, models_in_use)

    def _begin(self, event: Event, at: datetime) -> LatestModel:
        return LatestModel(RunLog(event.run_started), event.run_id, self._arrivals.put_nowait)

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
        """Load new models as they appear, forever."""
        while True:
            await self._load(await self._arrivals.get())
            metrics.set_down_computed()

    async def _load(self, run: LatestModel) -> None:
        digest = run.model_sha256
        if digest == run.served:
            return
        carrier = self._projections.carriers.get(run.run_id, {})
        with bound_contextvars(run=run.run_id, round=run.round), tracing.span("warm", carrier, run=run.run_id):
            try:
                await self._models.get(digest)
            except LabelloopError as error:  # a request for it gets the same error and handles it
                log.warning("warmup_failed", problem=error.message)
        run.served = digest

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
