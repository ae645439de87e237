"""Loads what will be asked for soon: each new model is in memory before the trainer's question comes."""

from __future__ import annotations

import structlog
from labelloop.wire.errors import LabelloopError
from labelloop.wire.eventlog import EventLog
from labelloop.wire.loading import Loaded
from labelloop.wire.subjects import EVERY_MODEL

from scorer_svc.model import Model

log = structlog.get_logger()


async def warm(events: EventLog, models: Loaded[str, Model]) -> None:
    """Follow the log for ever. What is old is passed over: whoever needs it asks for it."""
    newest = await events.last_sequence()
    async for recorded in events.follow(EVERY_MODEL, after=newest):
        if recorded.event is None:
            continue
        try:
            await models.get(recorded.event.model_trained.model_sha256)
        except LabelloopError as error:  # whoever asks for it gets the same error and deals with it
            log.warning("cannot warm up", run=recorded.event.run_id, problem=error.message)
