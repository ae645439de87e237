"""Archive runs and restore them, for ``labelloop run archive`` and ``labelloop run restore``.

The trainer writes the archive and records it. What stands of the run in the log is removed here, as an operator of the
broker: no service may. It is compared with the archive before.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from labelloop.errors import Corrupt, Unready
from labelloop.eventlog.connection import connect as connect_broker
from labelloop.eventlog.log import EventLog, Recorded
from labelloop.trainer.v1 import trainer_pb2 as pb

from labelloop_cli.clients import Clients, Endpoints, connect
from labelloop_cli.operations.run import listing
from labelloop_cli.output.console import console

USER = "operator"
_BROKER_WITHIN_S = 10.0
_ENDED = (pb.Phase.PHASE_FINISHED, pb.Phase.PHASE_CANCELLED, pb.Phase.PHASE_FAILED)


async def archive(run_ids: Sequence[str], ended_before: datetime | None, sync_s: float) -> None:
    """Archive runs, or all that ended before ``ended_before``, and remove what stands of archived runs in the log.

    Nothing is removed before ``sync_s`` seconds have passed: until the broker has written its data to the disk, a loss
    of power could take the archive away, and leave the removal. What an earlier try left to remove is removed too.

    Raises:
        LabelloopError: If a run cannot be archived; those before it are.
    """
    endpoints = Endpoints()
    async with _broker(endpoints) as log, connect(endpoints) as clients:
        left = await _left_to_remove(clients, log)
        chosen = [*run_ids, *(await _ended(clients, ended_before) if ended_before else ())]
        for run_id in dict.fromkeys(chosen):
            made = await clients.trainer.ArchiveRun(pb.ArchiveRunRequest(run_id=run_id))
            console.print(_told(run_id, made), highlight=False, soft_wrap=True)
        if not chosen and not left:
            console.print("no run has ended before then")
        elif sync_s:
            console.print(f"waiting {sync_s:.0f} s for the broker to write to its disk")
            await asyncio.sleep(sync_s)
        for run_id in dict.fromkeys([*left, *chosen]):
            made = await clients.trainer.ArchiveRun(pb.ArchiveRunRequest(run_id=run_id))
            removed = await _purge(clients, log, run_id, made)
            console.print(f"{removed} events of run {run_id} removed from the log")


async def _left_to_remove(clients: Clients, log: EventLog) -> list[str]:
    """Return the archived runs of which the log holds more than that they are archived."""
    archived = (await listing(clients, archived=True)).runs
    standing = await log.started_runs() if archived else frozenset()
    return [run.run_id for run in archived if run.run_id in standing]


def _told(run_id: str, made: pb.ArchiveRunResponse) -> str:
    left = f", {made.left_out} that broke its rules or could not be read left out" if made.left_out else ""
    return f"run {run_id} archived: {made.events} events{left}"


async def restore(run_ids: Sequence[str]) -> None:
    """Bring archived runs back."""
    async with connect(Endpoints()) as clients:
        for run_id in run_ids:
            run = (await clients.trainer.RestoreRun(pb.RestoreRunRequest(run_id=run_id))).run
            console.print(f"run {run.run_id} restored: round {run.round}, {run.labels_paid} labels")


async def _ended(clients: Clients, before: datetime) -> list[str]:
    runs = (await clients.trainer.ListRuns(pb.ListRunsRequest())).runs
    return [run.run_id for run in runs if run.phase in _ENDED and run.changed_at.ToDatetime(UTC) < before]


async def _purge(clients: Clients, log: EventLog, run_id: str, made: pb.ArchiveRunResponse) -> int:
    """Remove what stands of the run before its ``run_archived``, if the archive has it; return how many events."""
    standing = [each async for each in log.read_all(run_id) if each.sequence < made.sequence]
    if not standing:
        return 0
    request = pb.ExportRunRequest(run_id=run_id, events_only=True)
    archived = [part.event.SerializeToString(deterministic=True) async for part in clients.trainer.ExportRun(request)]
    check_kept(run_id, standing, archived, made.left_out)
    await log.purge_archived(run_id, made.sequence)
    return len(standing)


def check_kept(run_id: str, standing: Iterable[Recorded], archived: Iterable[bytes], left_out: int) -> None:
    """Raise Corrupt unless ``archived`` has each event of the run in ``standing``, but for ``left_out`` of them."""
    kept = Counter(archived)
    lost = sum(event is None or not kept[event] for event in of_the_run(standing))
    if lost > left_out:
        message = (
            f"the archive of run {run_id!r} lacks {lost} events that stand in the log, where it says that it left out "
            f"{left_out}: nothing was removed. Report this, and keep the log"
        )
        raise Corrupt("ARCHIVE_INCOMPLETE", message, run_id=run_id, lost=lost, left_out=left_out)


def of_the_run(standing: Iterable[Recorded]) -> list[bytes | None]:
    """Return the events that were the run's before it was archived last, unreadable ones as None.

    What followed an earlier archive is the run's only if ``run_restored`` came after it.
    """
    kept: list[bytes | None] = []
    late: list[bytes | None] = []
    live = True
    for recorded in standing:
        kind = recorded.event.WhichOneof("payload") if recorded.event else None
        if kind == "run_archived":
            live, late = False, []
        elif kind == "run_restored":
            live, kept, late = True, kept + late, []
        else:
            event = recorded.event.SerializeToString(deterministic=True) if recorded.event else None
            (kept if live else late).append(event)
    return kept


@asynccontextmanager
async def _broker(endpoints: Endpoints) -> AsyncIterator[EventLog]:
    """Open the log as the operator. Raises Unready if the broker does not answer."""
    where, key = endpoints.nats_url, endpoints.nats_nkey_file
    try:
        async with asyncio.timeout(_BROKER_WITHIN_S):
            client = await connect_broker(where, USER, tls_dir=endpoints.tls_dir, nkey_file=key)
    except TimeoutError as error:
        message = (
            f"the broker does not answer at {where}: say where it is with LABELLOOP_NATS_URL, and give the operator's "
            "key with LABELLOOP_NATS_NKEY_FILE where it asks for keys"
        )
        raise Unready("NO_BROKER", message, url=where) from error
    try:
        yield EventLog(client)
    finally:
        await client.close()
