"""Imports that are cut short, by a killed trainer or a client that goes away, and those that wait for each other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from labelloop.errors import LabelloopError, NotFound, WrongState
from labelloop.oracle.v1.oracle_pb2 import ListOpenSamplesRequest
from labelloop.trainer.v1.trainer_pb2 import ExportRunRequest, GetRunRequest, ImportRunRequest, ListRunsRequest
from labelloop_cli.clients import Clients, connect
from labelloop_cli.local.stack import Stack, running
from labelloop_cli.operations import run as commands
from labelloop_cli.operations.archive import export_run, import_run

from tests.blobs import Blobs, spec
from tests.e2e.driving import finish, point_at, start
from tests.e2e.test_crashes import check_log


@pytest.fixture
async def elsewhere(tmp_path: Path, nats_binary: Path) -> AsyncIterator[Stack]:
    """Another labelloop, whose broker is empty."""
    async with running(tmp_path / "elsewhere") as up:
        yield up


@pytest.fixture
async def exported(
    stack: Stack, clients: Clients, elsewhere: Stack, blobs: Blobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The export of the run "moved", for commands that talk to ``elsewhere``."""
    await start(clients, "moved", spec(blobs))
    await finish(clients, "moved")
    point_at(stack.endpoints, monkeypatch)
    await export_run("moved", tmp_path / "run.zip")
    point_at(elsewhere.endpoints, monkeypatch)
    return tmp_path / "run.zip"


async def die_at(stack: Stack, tmp_path: Path, point: str) -> None:
    """Let the trainer kill itself when it reaches a point."""
    trainer, armed = stack.services["trainer"], tmp_path / "armed"
    await trainer.stop()
    trainer.environment["LABELLOOP_CRASH_AT"] = str(armed)
    await trainer.start()
    armed.write_text(point)


@pytest.mark.parametrize(
    "point", ["after append run_started", "after append label_provided#7", "before append run_finished"]
)
async def test_a_killed_trainer_leaves_no_run_and_the_same_import_completes_it(
    point: str,
    clients: Clients,
    elsewhere: Stack,
    exported: Path,
    blobs: Blobs,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    await die_at(elsewhere, tmp_path, point)
    with pytest.raises(LabelloopError):
        await import_run(exported)
    for service in elsewhere.services.values():
        await service.stop()
        await service.start()
    async with connect(elsewhere.endpoints) as there:
        listed = await there.trainer.ListRuns(ListRunsRequest())
        assert not listed.runs
        assert [each.run_id for each in listed.unfinished_imports] == ["moved"]
        with pytest.raises(LabelloopError):
            async with connect(elsewhere.endpoints) as asking:
                await asking.oracle.ListOpenSamples(ListOpenSamplesRequest(run_id="moved"))
        with pytest.raises(WrongState, match="choose another run id"):
            async with connect(elsewhere.endpoints) as starting:
                await start(starting, "moved", spec(blobs, label_budget=7))
        await commands.list_()
        assert "labelloop run clear moved" in capsys.readouterr().err.replace("\n", " ")
        await import_run(exported)
        assert await there.labels("moved") == await clients.labels("moved")
        await check_log(elsewhere, "moved")


async def test_an_import_that_is_given_up_can_be_made_under_another_id(
    elsewhere: Stack, exported: Path, tmp_path: Path, clients: Clients
) -> None:
    await die_at(elsewhere, tmp_path, "after append pool_published")
    with pytest.raises(LabelloopError):
        await import_run(exported)
    await elsewhere.services["trainer"].stop()
    await elsewhere.services["trainer"].start()
    await commands.clear("moved", "no longer wanted")
    with pytest.raises(WrongState, match="--run-id"):
        await import_run(exported)
    await import_run(exported, "moved-again")
    async with connect(elsewhere.endpoints) as there:
        assert await there.labels("moved-again") == await clients.labels("moved")
        with pytest.raises(NotFound, match="given up"):
            async with connect(elsewhere.endpoints) as asking:
                await asking.trainer.GetRun(GetRunRequest(run_id="moved"))


async def test_the_command_waits_for_another_import_and_one_that_goes_away_leaves_nothing(
    clients: Clients, elsewhere: Stack, exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = clients.trainer.ExportRun(ExportRunRequest(run_id="moved"))
    events = [part.event async for part in parts if part.HasField("event")]
    for event in events:
        event.run_id = "other"
    sent = asyncio.Event()

    async def begun() -> AsyncIterator[ImportRunRequest]:
        for event in events:
            yield ImportRunRequest(event=event)
        sent.set()
        await asyncio.get_running_loop().create_future()

    async with connect(elsewhere.endpoints) as there:
        other = asyncio.ensure_future(there.trainer.ImportRun(begun()))
        await sent.wait()
        importing = asyncio.create_task(import_run(exported))
        said = ""
        while "another import is under way" not in said:
            await asyncio.sleep(0.05)
            said += capsys.readouterr().err.replace("\n", " ")
        other.cancel()
        await importing
        listed = await there.trainer.ListRuns(ListRunsRequest())
        assert [run.run_id for run in listed.runs] == ["moved"]
        assert not listed.unfinished_imports
