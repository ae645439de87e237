"""Record the start of a run of this version: ``python -m tests.chaos.record_history 0.1.0``, once per release.

Digests of artifacts and paths differ between machines: the history holds placeholders instead.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from google.protobuf import json_format
from labelloop.domain.run_end import RUN_ENDS
from labelloop.events.v1.events_pb2 import Event
from labelloop_cli.clients import connect
from labelloop_cli.local.stack import running

from tests.blobs import spec, write_blobs
from tests.e2e.driving import finish, start

HISTORIES = Path(__file__).parent / "histories"
_KEPT_ROUNDS = 4


def names(events: list[Event], folder: Path) -> dict[str, str]:
    """Strings that differ between machines, and their placeholders in a history."""
    found = {str(folder): "{folder}"}
    for event in events:
        pool, model = event.pool_published, event.model_trained
        found |= {pool.pool_sha256: "{pool}", pool.evaluation_sha256: "{evaluation}"} if pool.pool_sha256 else {}
        if model.model_sha256:
            found[model.model_sha256] = f"{{model {event.round}}}"
            found[model.training_state_sha256] = f"{{state {event.round}}}"
    return found


async def events_of(nats_url: str, run_id: str) -> list[Event]:
    """The events of a run in the log."""
    from labelloop.eventlog.connection import connect as connect_broker
    from labelloop.eventlog.log import EventLog

    client = await connect_broker(nats_url, "test")
    try:
        return [recorded.event for recorded in await EventLog(client).read_run(run_id) if recorded.event]
    finally:
        await client.close()


async def record(version: str) -> None:
    """Record a history that ends in the middle of a batch."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        blobs = write_blobs(folder)
        async with running(folder / "store", pools_dir=folder) as stack, connect(stack.endpoints) as clients:
            await start(clients, "history", spec(blobs))
            await finish(clients, "history")
            events = await events_of(stack.nats_url, "history")
        kept = [event for event in events if event.round < _KEPT_ROUNDS]
        kept += [event for event in events if event.round == _KEPT_ROUNDS][:4]  # model, request, two labels of five
        assert kept[-1].WhichOneof("payload") not in RUN_ENDS
        lines = "\n".join(
            json_format.MessageToJson(event, indent=None, preserving_proto_field_name=True) for event in kept
        )
        for machine, name in names(events, folder).items():
            lines = lines.replace(machine, name)
    (HISTORIES / f"{version}.jsonl").write_text(lines + "\n")


if __name__ == "__main__":
    asyncio.run(record(sys.argv[1]))
