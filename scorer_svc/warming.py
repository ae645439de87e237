"""Loads what will be asked for soon: each new model is in memory before anyone asks for it."""

from __future__ import annotations

import asyncio

import structlog
from labelloop.wire.errors import LabelloopError, NotFound
from labelloop.wire.eventlog import EventLog
from labelloop.wire.loading import Loaded
from labelloop.wire.run_book import RunBook

from scorer_svc.model import Model
from scorer_svc.newest import NewestModel

_AT_THE_START = 32  # half of the models that are kept

log = structlog.get_logger()


class Newest:
    """The newest model of each run. A run goes over to a new one when that is in memory: nobody waits for it."""

    def __init__(self, events: EventLog, models: Loaded[str, Model]) -> None:
        self._events, self._models = events, models
        self._arrivals: asyncio.Queue[NewestModel] = asyncio.Queue()
        self._book = RunBook(lambda event, at: NewestModel(event, self._arrivals.put_nowait))

    async def follow(self) -> None:
        """Keep up with the log, for ever."""
        await self._book.follow(self._events)

    async def catch_up(self) -> None:
        """Return once all that stands in the log now is known and the newest models of runs that go on, the last
        begun of them, are in memory. Others are loaded by whoever asks for them."""
        await self._book.reach(await self._events.last_sequence())
        while not self._arrivals.empty():
            self._arrivals.get_nowait()
        going = [run for run in self._book.runs.values() if run.digest and not run.over]
        for run in going[-_AT_THE_START:]:
            await self._load(run)

    async def warm(self) -> None:
        """Load what is new, for ever."""
        while True:
            await self._load(await self._arrivals.get())

    async def _load(self, run: NewestModel) -> None:
        digest = run.digest
        try:
            await self._models.get(digest)
        except LabelloopError as error:  # whoever asks for it gets the same error and deals with it
            log.warning("cannot warm up", run=run.run_id, problem=error.message)
        run.served = digest

    def digest(self, run_id: str) -> str:
        """The model that answers for a run. NotFound where there is no such run, or no model of it yet."""
        run = self._book.get(run_id)
        if not run.digest:
            message = f"run {run_id!r} has no model yet: ask again once it has been trained"
            raise NotFound("NO_MODEL_YET", message, run_id=run_id)
        run.served = run.served or run.digest
        return run.served
