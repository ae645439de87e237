"""Give up an import that was cut short."""

from __future__ import annotations

from labelloop.errors import NotFound, WrongState
from labelloop.eventlog.log import EventLog
from labelloop.eventlog.projections import RunProjections
from labelloop.events.v1.events_pb2 import Event, ImportCleared

from trainer_svc.domain.run_state import RunState


async def clear_import(projections: RunProjections[RunState], log: EventLog, run_id: str, reason: str) -> int:
    """Record that an import is void, and return how many events it has; 0 if that is recorded already.

    Events cannot be deleted, nor their subjects be written again: the id is not used again either.

    Raises:
        NotFound: If there is no such import.
        WrongState: If the run is complete.
    """
    await projections.wait_for(await log.newest(run_id))
    unfinished = projections.beginnings.unfinished(run_id)
    if run_id not in projections.beginnings.cleared:
        if run_id in projections.runs:
            raise _complete(run_id)
        if unfinished is None:
            message = f"no import of a run {run_id!r} was cut short; `labelloop run list` shows those that were"
            raise NotFound("UNKNOWN_IMPORT", message, field="run_id", run_id=run_id)
        recorded = await log.append_once(Event(run_id=run_id, import_cleared=ImportCleared(reason=reason)))
        await projections.wait_for(recorded.sequence)
    if run_id in projections.runs:  # it was completed meanwhile
        raise _complete(run_id)
    return unfinished.events if unfinished else 0


def _complete(run_id: str) -> WrongState:
    message = f"run {run_id!r} is complete, not an import that was cut short: `labelloop run cancel` ends it"
    return WrongState("RUN_COMPLETE", message, field="run_id", run_id=run_id)
