"""Remove runs for good, for ``labelloop run delete``, and imports that were given up, for ``run clear --purge``.

Both are the operator's. Nothing is taken from what a service says: log and artifacts are read where they lie.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from labelloop.artifacts.opening import open_store
from labelloop.domain.run_log import RunLog
from labelloop.errors import InvalidInput, LimitExceeded, WrongState
from labelloop.eventlog.log import EventLog
from labelloop.eventlog.projections import RunProjections

from labelloop_cli.clients import Endpoints
from labelloop_cli.operations.operator_connection import operator_of
from labelloop_cli.operations.run_deletion import RunDeletion, ToRemove
from labelloop_cli.operations.run_survey import Followed
from labelloop_cli.output.console import console, tell

Ask = Callable[[str], str]
_REASON_CHARACTERS_MAX = 1_000


async def delete(run_ids: Sequence[str], reason: str, sync_s: float, ask: Ask | None, *, dry_run: bool) -> None:
    """Delete archived runs, after telling what is removed.

    Args:
        run_ids: The runs.
        reason: Why, for people; at most 1,000 characters.
        sync_s: Seconds between the record of it and the first removal, as for archives.
        ask: Asks for a run's id to be typed again and returns what was typed; None to ask for nothing.
        dry_run: Tell what would be removed, with all artifacts, and change nothing.

    Raises:
        InvalidInput: If another id was typed. Nothing is changed then.
        LabelloopError: If something cannot be removed. Another try completes what was begun.
    """
    if len(reason) > _REASON_CHARACTERS_MAX:
        message = f"the reason has {len(reason)} characters: shorten it to {_REASON_CHARACTERS_MAX}"
        raise LimitExceeded("REASON_TOO_LONG", message, field="reason", most=_REASON_CHARACTERS_MAX)
    endpoints = Endpoints()
    async with operator_of(endpoints) as client:
        deletion = RunDeletion(EventLog(client), open_store(endpoints.artifacts_url, client), run_ids)
        plan = await deletion.plan()
        _tell(plan, dry_run=dry_run)
        if dry_run:
            return
        for run_id in plan.events if ask else ():
            _check_typed(run_id, ask(run_id) if ask else run_id)
        await deletion.record(reason)
        if sync_s:
            console.print(f"waiting {sync_s:.0f} s for the broker to write to its disk")
            await asyncio.sleep(sync_s)
        removed = await deletion.remove(plan.artifacts)
    console.print(f"{', '.join(plan.events)} deleted: {removed} artifacts removed", highlight=False, soft_wrap=True)


def _tell(plan: ToRemove, *, dry_run: bool) -> None:
    for run_id, events in plan.events.items():
        console.print(f"run {run_id}: all {events} events", highlight=False, soft_wrap=True)
    shared = f"; {plan.shared} that other runs need stay" if plan.shared else ""
    console.print(f"{len(plan.artifacts)} artifacts{shared}", highlight=False, soft_wrap=True)
    for digest in plan.artifacts if dry_run else ():
        console.print(digest, highlight=False, soft_wrap=True)
    tell(plan.notes)
    if dry_run:
        console.print("nothing was removed; without --dry-run, this would be")


def _check_typed(run_id: str, typed: str) -> None:
    if typed.strip() != run_id:
        message = f"{typed[:100]!r} is not {run_id!r}: nothing was removed. Type the id again, or add --yes"
        raise InvalidInput("NOT_CONFIRMED", message, field="run_id", run_id=run_id)


async def purge_import(run_id: str) -> None:
    """Remove from the log what stands of an import that was given up, but for the event that says so."""
    endpoints = Endpoints()
    async with operator_of(endpoints) as client:
        removed = await purge_given_up(EventLog(client), run_id)
    console.print(f"{removed} events of the import of run {run_id} removed from the log")


async def purge_given_up(log: EventLog, run_id: str) -> int:
    """Remove what stands of an import that was given up, and return how many events.

    Raises:
        WrongState: If there is a run of that id, or its import was not given up, whatever a service says.
        RefusedByBroker: If the broker's permissions forbid it.
    """
    projections = RunProjections(lambda event, _: Followed(RunLog(event.run_started)))
    standing = [each async for each in log.read_all(run_id)]
    for recorded in standing:
        projections.apply(recorded)
    is_run = run_id in projections.runs or run_id in projections.archived
    if is_run or run_id not in projections.beginnings.cleared:
        message = f"no import of a run {run_id!r} was given up: nothing was removed"
        raise WrongState("IMPORT_NOT_CLEARED", message, field="run_id", run_id=run_id)
    await log.purge_void(run_id)
    return len(standing) - len([each async for each in log.read_all(run_id)])
