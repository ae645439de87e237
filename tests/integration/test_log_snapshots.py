"""Starts from snapshots on a real broker: one that goes on, was rolled back, or was made anew; and kills meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from labelloop.errors import LogRolledBack
from labelloop.eventlog.log import EventLog
from labelloop.eventlog.log_snapshots import LogSnapshots
from labelloop.eventlog.projections import RunProjections
from labelloop.events.v1.events_pb2 import Event, LabelProvided
from labelloop_cli.local.nats.server import NatsServer
from structlog.testing import capture_logs

from tests.bench.log_events import fill, run_events
from tests.integration.test_eventlog import kept, opened, put_back
from tests.patience import PATIENCE_S
from trainer_svc.domain.run_state import RunState
from trainer_svc.status import STATUSES, status_of

EVENTS = [*run_events("ended", 6, 3, ended=True), *run_events("live", 6, 3, ended=False)]


def late(label: int) -> Event:
    event = Event(run_id="ended", round=0, label_provided=LabelProvided(sample_id=0, label=label, revision=1))
    event.recorded_at.seconds = 1
    return event


async def read(log: EventLog, folder: Path) -> tuple[RunProjections[RunState], LogSnapshots, int]:
    """Start as a trainer does; return its projections, its snapshots, and the sequence that the snapshot had."""
    projections = RunProjections(RunState.begin, status_of)
    snapshots = LogSnapshots(folder, "trainer", log, projections, STATUSES)
    await snapshots.restore()
    begun = projections.sequence
    following = asyncio.create_task(projections.follow(log))
    try:
        async with asyncio.timeout(PATIENCE_S):
            await projections.wait_for(await log.last_sequence())
    finally:
        following.cancel()
        await asyncio.wait({following})
    return projections, snapshots, begun


def states(projections: RunProjections[RunState]) -> dict[str, str]:
    return {run_id: repr(projections.get(run_id)) for run_id in projections.runs}


async def test_a_start_reads_only_what_is_new_and_knows_the_rest(nats_server: NatsServer, tmp_path: Path) -> None:
    async with opened(nats_server) as (client, log):
        held = await fill(client, iter(EVENTS))
        _, snapshots, begun = await read(log, tmp_path / "kept")
        assert begun == 0
        await snapshots.take()
        await log.append_once(late(9))
    async with opened(nats_server) as (_, log):
        after, _, begun = await read(log, tmp_path / "kept")
        assert begun == held
        whole, _, begun = await read(log, tmp_path / "none")
        assert begun == 0
        assert states(after) == states(whole)


@pytest.mark.parametrize("instead", [[], [late(8)], [late(9)], [late(9), *run_events("more", 3, 3, ended=True)]])
async def test_a_snapshot_of_a_log_that_was_rolled_back_is_ignored(
    nats_server: NatsServer, tmp_path: Path, instead: list[Event]
) -> None:
    store = tmp_path / "nats"
    async with opened(nats_server) as (client, _):
        await fill(client, iter(EVENTS))
    await kept(nats_server, store)
    async with opened(nats_server) as (_, log):
        await log.append_once(late(9))
        _, snapshots, _ = await read(log, tmp_path / "snapshots")
        await snapshots.take()
    await nats_server.stop()
    await put_back(nats_server, store)
    async with opened(nats_server) as (client, log):
        await fill(client, iter(instead))
        with capture_logs() as logs:
            after, _, begun = await read(log, tmp_path / "snapshots")
        whole, _, _ = await read(log, tmp_path / "none")
    assert begun == 0
    assert "rolled back" in next(line["why"] for line in logs if line["event"] == "snapshot_ignored")
    assert states(after) == states(whole)


async def test_a_broker_that_takes_back_the_newest_event_of_a_snapshot_is_noticed(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    store = tmp_path / "nats"
    async with opened(nats_server) as (client, _):
        await fill(client, iter(EVENTS))
    await kept(nats_server, store)
    async with opened(nats_server) as (_, log):
        await log.append_once(late(9))
        _, snapshots, _ = await read(log, tmp_path / "snapshots")
        await snapshots.take()
    async with opened(nats_server) as (_, log):
        projections = RunProjections(RunState.begin, status_of)
        await LogSnapshots(tmp_path / "snapshots", "trainer", log, projections, STATUSES).restore()
        assert projections.sequence == len(EVENTS) + 1
        following = asyncio.create_task(projections.follow(log))
        await nats_server.stop()
        await put_back(nats_server, store)
        async with opened(nats_server) as (_, others):
            await others.append_once(late(8))
            with pytest.raises(LogRolledBack):
                async with asyncio.timeout(PATIENCE_S):
                    await following


async def test_a_broker_that_was_made_anew_is_read_from_the_start(nats_server: NatsServer, tmp_path: Path) -> None:
    async with opened(nats_server) as (client, log):
        await fill(client, iter(EVENTS))
        _, snapshots, _ = await read(log, tmp_path / "snapshots")
        await snapshots.take()
    await nats_server.stop()
    shutil.rmtree(tmp_path / "nats")
    await nats_server.start()
    async with opened(nats_server) as (client, log):
        await fill(client, iter(EVENTS))
        _, _, begun = await read(log, tmp_path / "snapshots")
        assert begun == 0


async def reader(service: str, url: str, folder: Path, crash: Path) -> tuple[int | None, dict[str, Any]]:
    """Read the log in a process of its own, which takes a snapshot; return its exit code and what it printed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.log_reader", service, url, str(folder)),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "LABELLOOP_CRASH_AT": str(crash)},
    )
    output, _ = await process.communicate()
    return process.returncode, json.loads(output.splitlines()[-1]) if output else {}


@pytest.mark.parametrize("service", ["trainer", "scorer", "oracle"])
async def test_a_service_killed_while_it_takes_a_snapshot_starts_from_the_one_before(
    nats_server: NatsServer, tmp_path: Path, service: str
) -> None:
    folder, crash = tmp_path / "snapshots", tmp_path / "crash"
    async with opened(nats_server) as (client, log):
        held = await fill(client, iter(EVENTS))
        crash.write_text("before keep snapshot")
        code, _ = await reader(service, nats_server.url, folder, crash)
        assert code == -signal.SIGKILL
        _, first = await reader(service, nats_server.url, folder, crash)
        assert first["from_snapshot"] == 0
        await log.append_once(late(9))
        crash.write_text("before keep snapshot")
        code, _ = await reader(service, nats_server.url, folder, crash)
        assert code == -signal.SIGKILL
        code, second = await reader(service, nats_server.url, folder, crash)
    assert (code, second["from_snapshot"]) == (0, held)
