"""Loads what will be asked for soon: each new pool and model is in memory before the trainer's question comes."""

from __future__ import annotations

import structlog
from labelloop.events.v1.events_pb2 import Event
from labelloop.wire.errors import LabelloopError
from labelloop.wire.eventlog import EventLog
from labelloop.wire.loading import Loaded

from scorer_svc.model import Model
from scorer_svc.pool import Pool

log = structlog.get_logger()


async def warm(events: EventLog, pools: Loaded[str, Pool], models: Loaded[str, Model]) -> None:
    """Follow the log for ever. What is old is passed over: whoever needs it asks for it."""
    newest = await events.last_sequence()
    async for recorded in events.follow(after=newest):
        if recorded.event is not None:
            await _warm_one(recorded.event, pools, models)


async def _warm_one(event: Event, pools: Loaded[str, Pool], models: Loaded[str, Model]) -> None:
    try:
        match event.WhichOneof("payload"):
            case "pool_published":
                await pools.get(event.pool_published.pool_sha256)
            case "model_trained":
                await models.get(event.model_trained.model_sha256)
    except LabelloopError as error:  # whoever asks for it gets the same error and deals with it
        log.warning("cannot warm up", run=event.run_id, round=event.round, problem=error.message)
