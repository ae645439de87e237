"""Event logs of earlier versions are replayed and continued."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import json_format
from labelloop.events.v1.events_pb2 import Event
from labelloop.trainer.v1.trainer_pb2 import ImportRunRequest, Phase
from labelloop_cli.clients import Clients, connect
from labelloop_cli.local.stack import Stack, running

from tests.blobs import spec, write_blobs
from tests.chaos.invariants import faults
from tests.chaos.record_history import HISTORIES, events_of, names
from tests.e2e.driving import finish, start
from trainer_svc.run_archive import without_import


def history(path: Path, here: dict[str, str]) -> list[Event]:
    """Return the events in ``path``, with placeholders replaced by this machine's values."""
    text = path.read_text()
    for machine, name in here.items():
        text = text.replace(name, machine)
    return [json_format.Parse(line, Event()) for line in text.splitlines()]


async def take_in(clients: Clients, events: list[Event]) -> None:
    await clients.trainer.ImportRun(ImportRunRequest(event=event) for event in events)


def test_version_0_1_0_has_a_history() -> None:
    assert {path.stem for path in HISTORIES.glob("*.jsonl")} >= {"0.1.0"}


@pytest.mark.parametrize("path", sorted(HISTORIES.glob("*.jsonl")), ids=lambda path: path.stem)
async def test_a_history_is_replayed_and_continued(path: Path, tmp_path: Path, nats_binary: Path) -> None:
    """A run of the same spec without faults stores the artifacts and gives the expected models."""
    blobs = write_blobs(tmp_path)
    async with running(tmp_path / "store") as stack, connect(stack.endpoints) as clients:
        await start(clients, "calm", spec(blobs))
        calm = await finish(clients, "calm")
        here = names(await events_of(stack.nats_url, "calm"), tmp_path)
        recorded = history(path, here)
        await take_in(clients, recorded)
        carried_on = await finish(clients, "history")
        await check(stack, recorded)
    assert carried_on.run.phase == Phase.PHASE_FINISHED
    assert [each.model_sha256 for each in carried_on.rounds] == [each.model_sha256 for each in calm.rounds]


async def check(stack: Stack, recorded: list[Event]) -> None:
    """Check that the run begins as recorded and has no faults."""
    events = await events_of(stack.nats_url, "history")
    assert [without_import(event) for event in events[: len(recorded)]] == recorded
    assert not faults(events)
