"""Runs are archived with the command, read from the archive by all others, and brought back."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from labelloop.eventlog.connection import connect as connect_broker
from labelloop.eventlog.log import EventLog
from labelloop.scorer.v1.scorer_pb2 import ScoreRequest
from labelloop.trainer.v1.trainer_pb2 import GetModelRequest, ListRunsRequest, WatchRunRequest
from labelloop_cli.clients import Clients
from labelloop_cli.local.stack import Stack

from tests.blobs import Blobs
from tests.e2e.test_cli import labelloop, pool_options, row

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def run(stack: Stack, *arguments: str | Path) -> str:
    """Return what a command printed; it must succeed."""
    code, text = await labelloop(*arguments, stack=stack, LABELLOOP_NATS_URL=stack.nats_url)
    assert code == 0, text
    return text


async def events_of(stack: Stack, run_id: str) -> int:
    client = await connect_broker(stack.nats_url, "test")
    try:
        return len(await EventLog(client).read_run(run_id))
    finally:
        await client.close()


async def test_an_archived_run_is_listed_reported_exported_continued_and_restored(
    shared_stack: Stack, shared_clients: Clients, blobs: Blobs, tmp_path: Path
) -> None:
    stack = shared_stack
    await run(stack, "run", "start", *pool_options(blobs), "--run-id", "mine", "--budget", "20")
    before, after, ledger = tmp_path / "before.csv", tmp_path / "after.csv", tmp_path / "mine.zip"
    cells = row("mine", await run(stack, "run", "list")).split()
    await run(stack, "export", "labels", "mine", "-o", before)

    text = await run(stack, "run", "archive", "mine", "--sync-s", "0.1")
    assert "run mine archived" in text
    assert "events of run mine removed from the log" in text
    assert await events_of(stack, "mine") == 1
    assert "\n0 events of run mine removed" in await run(stack, "run", "archive", "mine", "--sync-s", "0")

    text = await run(stack, "run", "list")
    assert "1 archived runs are not shown" in text
    assert row("mine", await run(stack, "run", "list", "--archived")).split() == cells
    await run(stack, "export", "labels", "mine", "-o", after)
    assert after.read_text() == before.read_text()
    await run(stack, "export", "model", "mine", "-o", tmp_path / "m.onnx")
    await run(stack, "report", "mine", "-o", tmp_path / "report.html")
    await run(stack, "export", "--run", "mine", "-o", ledger)
    assert "budget" in await run(stack, "run", "spec", "mine")
    [watched] = [each.run async for each in shared_clients.trainer.WatchRun(WatchRunRequest(run_id="mine"))]
    assert watched.archived
    assert "it is archived" in await run(stack, "run", "watch", "mine")
    await run(stack, "run", "start", "--continues", "mine", "--run-id", "child", "--budget", "10")

    code, text = await labelloop("run", "cancel", "mine", stack=stack)
    assert code != 0
    assert "archived" in text
    code, text = await labelloop("run", "start", *pool_options(blobs), "--run-id", "mine", stack=stack)
    assert code != 0
    assert "choose another run id" in text
    code, text = await labelloop("import", ledger, stack=stack)
    assert code != 0, text

    assert "run mine restored" in await run(stack, "run", "restore", "mine")
    assert row("mine", await run(stack, "run", "list")).split() == cells
    await run(stack, "export", "labels", "mine", "-o", after)
    assert after.read_text() == before.read_text()


async def test_a_deleted_run_is_listed_and_nothing_else(
    shared_stack: Stack, shared_clients: Clients, blobs: Blobs, tmp_path: Path
) -> None:
    stack = shared_stack
    rounds = ("--budget", "20", "--first-batch", "5", "--batch-size", "5")
    await run(stack, "run", "start", *pool_options(blobs), "--run-id", "gone", *rounds)
    await run(stack, "run", "start", "--continues", "gone", "--run-id", "heir", "--budget", "10")
    before, after = tmp_path / "before.csv", tmp_path / "after.csv"
    await run(stack, "export", "labels", "heir", "-o", before)
    model = (await shared_clients.trainer.GetModel(GetModelRequest(run_id="gone", round=1))).model_sha256
    code, text = await labelloop("run", "delete", "gone", "--yes", stack=stack, LABELLOOP_NATS_URL=stack.nats_url)
    assert code != 0
    assert "archive it first" in text
    await run(stack, "run", "archive", "gone", "--sync-s", "0")

    text = await run(stack, "run", "delete", "gone", "--dry-run")
    assert "nothing was removed" in text
    assert model in text
    assert "that other runs need stay" in text
    code, text = await labelloop("run", "delete", "gone", stack=stack, LABELLOOP_NATS_URL=stack.nats_url)
    assert code != 0, "nobody typed the id"
    await run(stack, "export", "labels", "gone", "-o", after)

    assert "gone deleted" in await run(
        stack, "run", "delete", "gone", "--yes", "--sync-s", "0", "--reason", "moved out"
    )
    text = await run(stack, "run", "list", "--archived")
    assert " deleted " in row("gone", text)
    assert "gone: moved out" in text
    for command in (
        ["report", "gone", "-o", tmp_path / "report.html"],
        ["export", "labels", "gone", "-o", after],
        ["export", "--run", "gone", "-o", tmp_path / "gone.zip"],
        ["run", "restore", "gone"],
        ["run", "start", "--continues", "gone", "--budget", "10"],
    ):
        code, text = await labelloop(*command, stack=stack, LABELLOOP_NATS_URL=stack.nats_url)
        assert code != 0
        assert "was deleted (moved out)" in " ".join(text.split()), command
    with pytest.raises(grpc.aio.AioRpcError, match="was deleted"):
        await shared_clients.scorer.Score(ScoreRequest(run_id="gone"))
    code, text = await labelloop("run", "start", *pool_options(blobs), "--run-id", "gone", stack=stack)
    assert code != 0
    assert "which was deleted; choose another run id" in text

    await run(stack, "export", "labels", "heir", "-o", after)
    assert after.read_text() == before.read_text()
    await run(stack, "report", "heir", "-o", tmp_path / "report.html")
    await run(stack, "export", "--run", "heir", "-o", tmp_path / "heir.zip")
    await run(stack, "run", "start", "--continues", "heir", "--run-id", "heir-2", "--budget", "10")


async def test_archived_runs_are_listed_by_pages(shared_stack: Stack, shared_clients: Clients, blobs: Blobs) -> None:
    names = [f"paged-{number}" for number in range(3)]
    for name in names:
        await run(shared_stack, "run", "start", *pool_options(blobs), "--run-id", name, "--budget", "10")
    await run(shared_stack, "run", "archive", *names, "--sync-s", "0")
    found, after = [], ""
    while True:
        page = await shared_clients.trainer.ListRuns(ListRunsRequest(archived=True, after=after, limit=2))
        found += [each.run_id for each in page.runs]
        if not page.more:
            break
        after = found[-1]
    others = found[: -len(names)]  # archived by other tests, before
    assert found == others + names
    assert page.archived == len(found) == len({*found})
