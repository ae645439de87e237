"""Runs are exported, and rebuilt on an empty broker."""

from __future__ import annotations

import zipfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest
from labelloop.errors import InvalidInput, NotFound, WrongState
from labelloop.events.v1.events_pb2 import LabelSource, RunSpec
from labelloop.oracle.v1.oracle_pb2 import SubmitLabelsRequest, SubmittedLabel
from labelloop.trainer.v1.trainer_pb2 import GetModelRequest, GetRunResponse, ListRunsRequest
from labelloop_cli.__main__ import app
from labelloop_cli.clients import Clients, connect
from labelloop_cli.local.stack import Stack, running
from labelloop_cli.operations.archive import export_run, import_run
from typer.testing import CliRunner

from tests.blobs import Blobs, spec
from tests.e2e.driving import finish, point_at, start, waiting_samples
from tests.e2e.test_crashes import check_log

Tamper = Callable[[dict[str, bytes]], None]


@pytest.fixture
async def elsewhere(tmp_path: Path, nats_binary: Path) -> AsyncIterator[Stack]:
    """Another labelloop, whose broker is empty."""
    async with running(tmp_path / "elsewhere") as up:
        yield up


def by_hand(blobs: Blobs) -> RunSpec:
    return spec(blobs, label_source=LabelSource.LABEL_SOURCE_QUEUE, label_budget=10)


async def answer(clients: Clients, blobs: Blobs, run_id: str, count: int) -> None:
    """Label the next ``count`` samples requested by a run."""
    truth = np.load(blobs.labels)
    async for status in clients.watch(run_id):
        waiting = await waiting_samples(clients, run_id)
        if status.labels_open and waiting:
            ids = [sample.sample_id for sample in waiting][:count]
            labels = [SubmittedLabel(sample_id=each, label=int(truth[each])) for each in ids]
            request = SubmitLabelsRequest(run_id=run_id, annotator="kim", labels=labels)
            count -= (await clients.oracle.SubmitLabels(request)).recorded
        if not count:
            return


def models(run: GetRunResponse) -> list[str]:
    return [result.model_sha256 for result in run.rounds]


async def test_finished_run_is_rebuilt_with_all_labels_and_models(
    stack: Stack, elsewhere: Stack, blobs: Blobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connect(stack.endpoints) as here, connect(elsewhere.endpoints) as there:
        await start(here, "moved", spec(blobs))
        run = await finish(here, "moved")
        point_at(stack.endpoints, monkeypatch)
        await export_run("moved", tmp_path / "run.zip")
        point_at(elsewhere.endpoints, monkeypatch)
        for _ in range(2):  # the second time changes nothing
            await import_run(tmp_path / "run.zip")
        rebuilt = await finish(there, "moved")
        assert models(rebuilt) == models(run)
        assert await there.labels("moved") == await here.labels("moved")
        for result in run.rounds:
            request = GetModelRequest(run_id="moved", round=result.round)
            assert await there.trainer.GetModel(request) == await here.trainer.GetModel(request)
        await check_log(elsewhere, "moved")


async def test_imported_unfinished_run_continues_to_the_same_models(
    stack: Stack, elsewhere: Stack, blobs: Blobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connect(stack.endpoints) as here, connect(elsewhere.endpoints) as there:
        await start(here, "moved", by_hand(blobs))
        await answer(here, blobs, "moved", 7)
        point_at(stack.endpoints, monkeypatch)
        await export_run("moved", tmp_path / "run.zip")
        point_at(elsewhere.endpoints, monkeypatch)
        await import_run(tmp_path / "run.zip")
        for clients in (here, there):
            await answer(clients, blobs, "moved", 3)
        assert models(await finish(there, "moved")) == models(await finish(here, "moved"))
        await check_log(elsewhere, "moved")


def without_artifact(parts: dict[str, bytes]) -> None:
    parts.pop(next(name for name in parts if name.startswith("artifacts/")))


def with_flipped_bit(parts: dict[str, bytes]) -> None:
    name = next(name for name in parts if name.startswith("artifacts/"))
    parts[name] = bytes([parts[name][0] ^ 1]) + parts[name][1:]


def without_start(parts: dict[str, bytes]) -> None:
    parts["events.jsonl"] = parts["events.jsonl"].split(b"\n", 1)[1]


def with_a_line_twice(parts: dict[str, bytes]) -> None:
    lines = parts["events.jsonl"].splitlines(keepends=True)
    parts["events.jsonl"] = b"".join([*lines, lines[-2]])


def with_a_gap(parts: dict[str, bytes]) -> None:
    lines = parts["events.jsonl"].splitlines(keepends=True)
    parts["events.jsonl"] = b"".join(line for line in lines if b"labels_requested" not in line)


def with_nonsense(parts: dict[str, bytes]) -> None:
    parts["events.jsonl"] = b"{}\nno event\n"


def without_events(parts: dict[str, bytes]) -> None:
    parts.pop("events.jsonl")


async def test_invalid_archives_are_refused_and_change_nothing(
    stack: Stack, elsewhere: Stack, blobs: Blobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connect(stack.endpoints) as here, connect(elsewhere.endpoints) as there:
        await start(here, "moved", spec(blobs))
        await finish(here, "moved")
        point_at(stack.endpoints, monkeypatch)
        await export_run("moved", tmp_path / "run.zip")
        point_at(elsewhere.endpoints, monkeypatch)
        tampers: list[Tamper] = [without_artifact, with_flipped_bit, without_start, with_a_line_twice]
        tampers += [with_a_gap, with_nonsense, without_events]
        for tamper in tampers:
            with zipfile.ZipFile(tmp_path / "run.zip") as sound, zipfile.ZipFile(tmp_path / "bad.zip", "w") as bad:
                parts = {name: sound.read(name) for name in sound.namelist()}
                tamper(parts)
                for name, data in parts.items():
                    bad.writestr(name, data)
            with pytest.raises(InvalidInput):
                await import_run(tmp_path / "bad.zip")
        (tmp_path / "bad.zip").write_bytes(b"no zip")
        with pytest.raises(InvalidInput):
            await import_run(tmp_path / "bad.zip")
        assert not (await there.trainer.ListRuns(ListRunsRequest())).runs


async def test_import_over_a_run_that_has_continued_is_refused(
    stack: Stack, blobs: Blobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connect(stack.endpoints) as clients:
        await start(clients, "run", by_hand(blobs))
        await answer(clients, blobs, "run", 2)
        point_at(stack.endpoints, monkeypatch)
        await export_run("run", tmp_path / "run.zip")
        await answer(clients, blobs, "run", 2)
        with pytest.raises(WrongState, match="another run"):
            await import_run(tmp_path / "run.zip")


def test_commands_refuse_invalid_arguments(stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    point_at(stack.endpoints, monkeypatch)
    command = CliRunner()
    assert isinstance(
        command.invoke(app, ["export", "--run", "nobody", "-o", str(tmp_path / "x.zip")]).exception, NotFound
    )
    assert isinstance(command.invoke(app, ["import", str(tmp_path / "x.zip")]).exception, NotFound)
    assert isinstance(command.invoke(app, ["export", "--run", "a", "labels", "b"]).exception, InvalidInput)
    assert command.invoke(app, ["export"]).exit_code == 2
    assert not (tmp_path / "x.zip").exists()
