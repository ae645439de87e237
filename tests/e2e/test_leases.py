"""Leases of several annotators, revisions, consensus, deadlines and cancelled requests, through the services."""

from __future__ import annotations

import asyncio
import csv
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labelloop.events.v1.events_pb2 import GoldSample, Protocol, QueueSpec, SkipKind
from labelloop.oracle.v1.oracle_pb2 import (
    CancelRequestsRequest,
    GetBacklogRequest,
    GetBacklogResponse,
    LabelRequest,
    LabelResult,
    LeaseNextRequest,
    ListAnswersRequest,
    ReleaseLeasesRequest,
    SubmitResultsRequest,
)
from labelloop.trainer.v1.trainer_pb2 import GetRunRequest, Phase, RunStatus
from labelloop_cli.__main__ import app
from labelloop_cli.clients import Clients
from labelloop_cli.local.stack import Stack
from PIL import Image
from typer.testing import CliRunner

from tests.blobs import Blobs, spec
from tests.e2e.driving import finish, point_at, start
from tests.patience import PATIENCE_S

QUEUE = 2
RUN = "by_hand"
EXPIRED = SkipKind.SKIP_KIND_EXPIRED


async def begin(clients: Clients, blobs: Blobs, *, budget: int = 10, **queue: Any) -> None:
    changes = {"label_source": QUEUE, "label_budget": budget, "auto_label_budget": 0, "stopping_sample_count": 0}
    changed = spec(blobs, **changes, protocol=Protocol.PROTOCOL_HONEST, queue=QueueSpec(**queue))
    await start(clients, RUN, changed)
    await waiting(clients, 5)


async def waiting(clients: Clients, count: int) -> None:
    """Wait until ``count`` samples are open at the oracle."""
    await until(clients, lambda backlog: backlog.runs[0].open == count)


async def until(clients: Clients, holds: Callable[[GetBacklogResponse], bool]) -> GetBacklogResponse:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            backlog: GetBacklogResponse = await clients.oracle.GetBacklog(GetBacklogRequest())
            if backlog.runs and holds(backlog):
                return backlog
            await asyncio.sleep(0.01)


async def lease(clients: Clients, annotator: str, count: int = 1, lease_s: int = 600) -> list[LabelRequest]:
    request = LeaseNextRequest(run_id=RUN, annotator=annotator, count=count, lease_s=lease_s)
    return list((await clients.oracle.LeaseNext(request)).requests)


async def say(clients: Clients, request: LabelRequest, annotator: str, **answer: Any) -> int:
    result = LabelResult(request_id=request.request_id, annotator=annotator, **answer)
    return int((await clients.oracle.SubmitResults(SubmitResultsRequest(results=[result]))).recorded)


async def test_a_request_contains_the_sample_and_the_classes(clients: Clients, blobs: Blobs) -> None:
    await begin(clients, blobs)
    [request] = await lease(clients, "kim")
    samples = np.load(blobs.samples)
    assert request.media_type == "image/png"
    with Image.open(BytesIO(request.content)) as image:
        assert np.array_equal(np.asarray(image).reshape(samples[0].shape), samples[request.sample_id])
    assert list(request.classes) == ["0", "1", "2"]
    assert request.request_id == f"{RUN}/0/{request.sample_id}/0"
    assert not request.HasField("prediction")


async def test_leases_are_exclusive_until_they_are_released_or_expire(clients: Clients, blobs: Blobs) -> None:
    await begin(clients, blobs)
    held = await asyncio.gather(*(lease(clients, name, 2) for name in ("kim", "lee", "max")))
    assert len({request.sample_id for requests in held for request in requests}) == sum(map(len, held)) == 5
    kim = held[0]
    assert [each.request_id for each in await lease(clients, "kim", 2)] == [each.request_id for each in kim]
    assert {each.next_revision for each in kim} == {0}
    assert await lease(clients, "pat") == []
    await say(clients, kim[0], "kim", label=0)
    await say(clients, kim[0], "kim", withdrawn=True, revision=1)
    assert {each.sample_id: each.next_revision for each in await lease(clients, "kim", 2)}[kim[0].sample_id] == 2
    ids = [request.request_id for request in kim]
    released = await clients.oracle.ReleaseLeases(ReleaseLeasesRequest(annotator="kim", request_ids=ids))
    assert released.released == len(kim)
    short = await lease(clients, "pat", 3, lease_s=1)
    assert {request.sample_id for request in short} == {request.sample_id for request in kim}
    async with asyncio.timeout(PATIENCE_S):
        while not await lease(clients, "kim", 3):  # until pat's leases have expired
            pass


async def test_a_third_annotator_is_not_left_with_nothing(clients: Clients, blobs: Blobs) -> None:
    truth = np.load(blobs.labels)
    await begin(clients, blobs)
    kim, lee = await lease(clients, "kim", 4), await lease(clients, "lee", 4)
    assert (len(kim), len(lee)) == (4, 1)
    [pat] = await lease(clients, "pat", 4)
    assert pat.request_id == kim[3].request_id, "the one that kim would come to last"
    assert [each.request_id for each in await lease(clients, "kim", 4)] == [each.request_id for each in kim[:3]]
    assert await say(clients, pat, "kim", label=int(truth[pat.sample_id])) == 1, "whoever answers first"
    assert await say(clients, pat, "pat", label=int(truth[pat.sample_id])) == 0
    [next_one] = await lease(clients, "pat", 4)
    assert next_one.request_id == kim[2].request_id


async def test_the_tabs_of_one_annotator_are_one_annotator(clients: Clients, blobs: Blobs) -> None:
    await begin(clients, blobs)
    tabs = await asyncio.gather(*(lease(clients, "kim", 3) for _ in range(4)))
    ids = [sorted(request.request_id for request in requests) for requests in tabs]
    assert ids == [ids[0]] * 4
    assert len(ids[0]) == 3
    assert await say(clients, tabs[0][0], "kim", label=1) == 1
    assert await say(clients, tabs[0][0], "kim", label=1) == 0, "from another tab"


async def test_a_contradicting_answer_is_listed_and_changes_nothing(
    clients: Clients, blobs: Blobs, stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await begin(clients, blobs)
    first, second, *_ = await lease(clients, "kim", 5)
    assert await say(clients, first, "kim", label=1) == 1
    assert await say(clients, first, "lee", label=2, comment="look at its tail") == 0
    assert await say(clients, second, "kim", label=0) == 1
    assert await say(clients, second, "lee", label=0) == 0
    said = (await clients.oracle.ListAnswers(ListAnswersRequest(run_id=RUN))).events
    assert [(each.answer_given.annotator, each.answer_given.late_label) for each in said[1:2]] == [("lee", 2)]
    assert len(said) == 3
    backlog = await until(clients, lambda backlog: backlog.runs[0].contradicted == 1)
    assert {each.annotator: each.contradicting for each in backlog.runs[0].annotators} == {"kim": 0, "lee": 1}
    point_at(stack.endpoints, monkeypatch)

    async def run(*words: str) -> str:
        return (await asyncio.to_thread(CliRunner().invoke, app, [*words])).output

    table = tmp_path / "lee.csv"
    table.write_text(f"id,class\n{first.sample_id},2\n{second.sample_id},0\n")
    submitted = await run("label", "submit", RUN, str(table), "--annotator", "lee")
    assert "0 labels recorded, 1 stood already, 1 contradict what stands" in submitted
    shown = await run("label", "contradicted", RUN)
    assert f"sample {first.sample_id}: 1 by kim; 2 by lee (look at its tail)" in shown
    assert f"sample {second.sample_id}" not in shown
    assert f"labelloop label contradicted {RUN}" in await run("label", "backlog", RUN)
    await run("export", "labels", RUN, "-o", str(tmp_path / "labels.csv"))
    with (tmp_path / "labels.csv").open(newline="") as file:
        rows = {int(row["id"]): row["contradicted_by"] for row in csv.DictReader(file)}
    assert rows == {first.sample_id: "2 by lee (look at its tail)", second.sample_id: ""}


async def test_leases_survive_a_restart_of_the_oracle(clients: Clients, blobs: Blobs, stack: Stack) -> None:
    await begin(clients, blobs)
    [held] = await lease(clients, "kim")
    oracle = stack.services["oracle"]
    await oracle.stop()
    await oracle.start()
    await waiting(clients, 5)
    [again] = await lease(clients, "kim")
    assert again.request_id == held.request_id
    assert held.sample_id not in {request.sample_id for request in await lease(clients, "lee", 5)}


async def test_a_revised_label_is_kept_and_a_withdrawn_one_is_replaced(clients: Clients, blobs: Blobs) -> None:
    truth = np.load(blobs.labels)
    await begin(clients, blobs)
    first, second, *rest = await lease(clients, "kim", 5)
    for request in (first, second, *rest):
        await say(clients, request, "kim", label=int(truth[request.sample_id]))
    await until(clients, lambda backlog: backlog.runs[0].open == 5 and backlog.runs[0].labelled == 5)
    wrong = (int(truth[first.sample_id]) + 1) % 3
    assert await say(clients, first, "kim", label=wrong, revision=1) == 1
    assert await say(clients, first, "kim", label=wrong, revision=1) == 0
    assert await say(clients, second, "kim", withdrawn=True, revision=1) == 1
    while True:
        status: RunStatus = (await clients.trainer.GetRun(GetRunRequest(run_id=RUN))).run
        if status.phase == Phase.PHASE_FINISHED:
            break
        for request in await lease(clients, "kim", 5):
            await say(clients, request, "kim", label=int(truth[request.sample_id]))
    held = {record.sample_id: record.label for record in await clients.labels(RUN)}
    assert held[first.sample_id] == wrong
    assert second.sample_id not in held
    assert len(held) == status.labels_paid == 10
    said = (await clients.oracle.ListAnswers(ListAnswersRequest(run_id=RUN))).events
    assert [event.label_provided.label for event in said if event.label_provided.sample_id == first.sample_id] == [
        truth[first.sample_id],
        wrong,
    ]


async def test_consensus_outvotes_a_wrong_annotator_whom_gold_samples_reveal(clients: Clients, blobs: Blobs) -> None:
    truth = np.load(blobs.labels)
    gold = [GoldSample(sample_id=each, label=int(truth[each])) for each in (290, 291)]
    await begin(clients, blobs, budget=5, annotators=2, annotators_max=3, gold=gold)
    async with asyncio.timeout(PATIENCE_S):
        while (await clients.trainer.GetRun(GetRunRequest(run_id=RUN))).run.phase != Phase.PHASE_FINISHED:
            for annotator in ("errs", "kim", "lee"):
                for request in await lease(clients, annotator, 2):
                    right = int(truth[request.sample_id])
                    await say(clients, request, annotator, label=(right + (annotator == "errs")) % 3, time_spent_s=2.0)
    records = await clients.labels(RUN)
    assert {record.sample_id: record.label for record in records} == {
        record.sample_id: truth[record.sample_id] for record in records
    }
    assert {record.source for record in records} == {"agreement"}
    assert not {290, 291} & {record.sample_id for record in records}
    [run] = (await clients.oracle.GetBacklog(GetBacklogRequest(run_id=RUN))).runs
    quality = {each.annotator: each for each in run.annotators}
    assert (quality["errs"].gold_right, quality["errs"].agreed) == (0, 0)
    assert quality["kim"].gold == quality["kim"].gold_right > 0
    assert quality["kim"].time_spent_s == 2.0
    assert run.shared_samples > 5, "gold samples among them"
    assert (0 < run.pair_agreement < 1, run.HasField("alpha")) == (True, False)
    started = (await clients.trainer.GetRun(GetRunRequest(run_id=RUN))).run
    assert started.spec.queue.resolution_version == 1


async def test_samples_not_labelled_by_their_deadline_are_replaced(clients: Clients, blobs: Blobs) -> None:
    truth = np.load(blobs.labels)
    await begin(clients, blobs, budget=5, deadline_s=1)
    first, *_ = await lease(clients, "kim", 5)
    assert first.HasField("deadline")
    await until(clients, lambda backlog: backlog.runs[0].skipped >= 5)
    async with asyncio.timeout(PATIENCE_S):
        while (await clients.trainer.GetRun(GetRunRequest(run_id=RUN))).run.phase != Phase.PHASE_FINISHED:
            for request in await lease(clients, "kim", 5):
                await say(clients, request, "kim", label=int(truth[request.sample_id]))
    end: RunStatus = (await finish(clients, RUN)).run
    assert (end.labels_paid, end.samples_skipped >= 5) == (5, True)
    said = (await clients.oracle.ListAnswers(ListAnswersRequest(run_id=RUN))).events
    expired = [event.sample_skipped.sample_id for event in said if event.sample_skipped.kind == EXPIRED]
    assert first.sample_id in expired


async def test_a_cancelled_request_accepts_no_result(clients: Clients, blobs: Blobs) -> None:
    await begin(clients, blobs)
    first, *_ = await lease(clients, "kim", 5)
    request = CancelRequestsRequest(run_id=RUN, sample_ids=[first.sample_id], annotator="boss", comment="broken")
    assert (await clients.oracle.CancelRequests(request)).cancelled == 1
    assert (await clients.oracle.CancelRequests(request)).cancelled == 0
    with pytest.raises(Exception, match="no longer asked for"):
        await say(clients, first, "kim", label=1)
