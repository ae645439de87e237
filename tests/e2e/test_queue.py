"""Labels and skips by annotators."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import numpy as np
import pytest
from labelloop.errors import InvalidInput, from_rpc
from labelloop.events.v1.events_pb2 import Protocol, SkipKind
from labelloop.oracle.v1.oracle_pb2 import (
    OpenSample,
    SkippedSample,
    SkipSamplesRequest,
    SubmitLabelsRequest,
    SubmittedLabel,
)
from labelloop.trainer.v1.trainer_pb2 import Phase, RunStatus
from labelloop_cli.__main__ import app
from labelloop_cli.clients import Clients
from labelloop_cli.local.stack import Stack
from numpy.typing import NDArray
from typer.testing import CliRunner

from tests.blobs import Blobs, certified_spec, spec, write_blobs
from tests.e2e.driving import finish, point_at, start, waiting_samples
from tests.patience import PATIENCE_S

QUEUE = 2


async def open_samples(clients: Clients, count: int) -> list[OpenSample]:
    """Wait for ``count`` open samples."""
    async with asyncio.timeout(PATIENCE_S):
        async for status in clients.watch("by_hand"):
            if status.labels_open == count:
                break
        while True:
            waiting = await waiting_samples(clients, "by_hand")
            if len(waiting) == count:
                return waiting
            await asyncio.sleep(0.01)


def answers(waiting: list[OpenSample], truth: NDArray[np.int32]) -> list[SubmittedLabel]:
    return [SubmittedLabel(sample_id=sample.sample_id, label=int(truth[sample.sample_id])) for sample in waiting]


async def test_annotators_label_batch_by_batch_until_the_run_ends(clients: Clients, blobs: Blobs) -> None:
    truth = np.load(blobs.labels)
    changed = spec(blobs, label_source=QUEUE, label_budget=10, auto_label_budget=0)
    changed.dataset.labels, changed.dataset.classes[:] = "", ["a", "b", "c"]
    changed.dataset.evaluation = changed.dataset.evaluation_labels = ""
    changed.protocol, changed.stopping_sample_count = Protocol.PROTOCOL_HONEST, 0
    await start(clients, "by_hand", changed)
    for _ in range(2):
        labels = answers(await open_samples(clients, 5), truth)
        request = SubmitLabelsRequest(run_id="by_hand", annotator="kim", labels=labels)
        assert (await clients.oracle.SubmitLabels(request)).recorded == 5
        assert (await clients.oracle.SubmitLabels(request)).repeated_count == 5
    end: RunStatus = (await finish(clients, "by_hand")).run
    records = await clients.labels("by_hand")
    assert (end.phase, end.labels_paid) == (Phase.PHASE_FINISHED, 10)
    assert {(record.source, record.annotator) for record in records} == {("queue", "kim")}


async def test_skipped_samples_are_replaced_and_cost_no_label_budget(
    clients: Clients, blobs: Blobs, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = np.load(blobs.labels)
    await start(clients, "by_hand", spec(blobs, label_source=QUEUE, label_budget=10, auto_label_budget=0))
    first, second, *rest = await open_samples(clients, 5)
    broken = SkippedSample(sample_id=first.sample_id, kind=SkipKind.SKIP_KIND_REJECTED, comment="black")
    unclear = SkippedSample(sample_id=second.sample_id, kind=SkipKind.SKIP_KIND_SKIPPED)
    request = SkipSamplesRequest(run_id="by_hand", annotator="kim", samples=[broken, unclear])
    assert (await clients.oracle.SkipSamples(request)).recorded == 2
    assert (await clients.oracle.SkipSamples(request)).repeated_count == 2
    late = SubmitLabelsRequest(run_id="by_hand", annotator="kim", labels=answers([first, *rest], truth))
    response = await clients.oracle.SubmitLabels(late)
    assert (response.recorded, response.repeated_count) == (3, 1)
    third, fourth = await open_samples(clients, 2)
    assert {third.round, fourth.round} == {0}
    point_at(stack.endpoints, monkeypatch)
    said = await asyncio.to_thread(CliRunner().invoke, app, ["label", "skip", "by_hand", str(third.sample_id)])
    assert "1 samples skipped" in said.output
    labels = answers([fourth], truth)
    await clients.oracle.SubmitLabels(SubmitLabelsRequest(run_id="by_hand", annotator="kim", labels=labels))
    for count in (1, 5):
        labels = answers(await open_samples(clients, count), truth)
        await clients.oracle.SubmitLabels(SubmitLabelsRequest(run_id="by_hand", annotator="kim", labels=labels))
    run = (await finish(clients, "by_hand")).run
    assert (run.phase, run.labels_paid, run.samples_skipped) == (Phase.PHASE_FINISHED, 10, 3)
    labelled = {record.sample_id for record in await clients.labels("by_hand")}
    assert len(labelled) == 10
    assert not labelled & {first.sample_id, second.sample_id, third.sample_id}


async def test_skipped_audit_samples_are_replaced_and_counted(clients: Clients, tmp_path: Path) -> None:
    blobs = write_blobs(tmp_path, noise=10)
    truth = np.load(blobs.labels)
    await start(clients, "by_hand", certified_spec(blobs, label_source=QUEUE, batch_size=20, label_budget=20))

    async def label(waiting: list[OpenSample]) -> None:
        request = SubmitLabelsRequest(run_id="by_hand", annotator="kim", labels=answers(waiting, truth))
        await clients.oracle.SubmitLabels(request)

    await label(await open_samples(clients, 20))
    broken, unclear, *rest = await open_samples(clients, 60)
    kinds = [(broken, SkipKind.SKIP_KIND_REJECTED), (unclear, SkipKind.SKIP_KIND_SKIPPED)]
    skipped = [SkippedSample(sample_id=sample.sample_id, kind=kind) for sample, kind in kinds]
    await clients.oracle.SkipSamples(SkipSamplesRequest(run_id="by_hand", annotator="kim", samples=skipped))
    await label(rest)
    await label(await open_samples(clients, 2))
    run = (await finish(clients, "by_hand")).run
    certificate = run.certificate
    assert (certificate.audited, certificate.unlabelled, run.audit_labels) == (60, 2, 60)
    assert run.auto_labels == certificate.count > 0
    chosen = {record.sample_id for record in await clients.labels("by_hand")}
    assert not chosen & {broken.sample_id, unclear.sample_id}


@pytest.mark.parametrize("fault", ["no reason", "not asked for", "twice"])
async def test_no_skip_is_recorded_if_one_is_invalid(clients: Clients, blobs: Blobs, fault: str) -> None:
    await start(clients, "by_hand", spec(blobs, label_source=QUEUE))
    waiting = [sample.sample_id for sample in await open_samples(clients, 5)]
    stranger = next(sample_id for sample_id in range(300) if sample_id not in waiting)
    kind = SkipKind.SKIP_KIND_SKIPPED
    good, bad = (
        SkippedSample(sample_id=waiting[0], kind=kind),
        {
            "no reason": SkippedSample(sample_id=waiting[1]),
            "not asked for": SkippedSample(sample_id=stranger, kind=kind),
            "twice": SkippedSample(sample_id=waiting[0], kind=kind),
        }[fault],
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await clients.oracle.SkipSamples(SkipSamplesRequest(run_id="by_hand", samples=[good, bad]))
    assert isinstance(from_rpc(caught.value), InvalidInput)
    assert len(await open_samples(clients, 5)) == 5


@pytest.mark.parametrize("fault", ["class outside", "not asked for", "twice"])
async def test_no_label_is_recorded_if_one_is_invalid(clients: Clients, blobs: Blobs, fault: str) -> None:
    await start(clients, "by_hand", spec(blobs, label_source=QUEUE))
    waiting = await open_samples(clients, 5)
    labels = answers(waiting, np.load(blobs.labels))
    asked = {sample.sample_id for sample in waiting}
    stranger = next(sample_id for sample_id in range(300) if sample_id not in asked)
    labels.append(
        {
            "class outside": SubmittedLabel(sample_id=labels[0].sample_id, label=3),
            "not asked for": SubmittedLabel(sample_id=stranger, label=0),
            "twice": labels[0],
        }[fault]
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await clients.oracle.SubmitLabels(SubmitLabelsRequest(run_id="by_hand", labels=labels))
    assert isinstance(from_rpc(caught.value), InvalidInput)
    assert len(await open_samples(clients, 5)) == 5
