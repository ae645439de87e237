"""Names that cannot be seen for what they are, by every way into running services."""

from __future__ import annotations

import base64
import csv
import json
import urllib.parse
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from labelloop.artifacts.store import digest_of
from labelloop.errors import InvalidInput, from_rpc
from labelloop.eventlog.connection import connect as connect_broker
from labelloop.events.v1.events_pb2 import DatasetSource, Protocol, QueueSpec, SkipKind
from labelloop.oracle.v1 import oracle_pb2 as pb
from labelloop.trainer.v1.trainer_pb2 import StartRunRequest
from labelloop_cli.local.nats.server import NatsServer
from PIL import Image

from oracle_svc.integrations.nats import RESULTS
from oracle_svc.integrations.webhook.integration import RESULTS_PATH, SUBMITTED
from oracle_svc.integrations.webhook.signatures import Signatures
from tests.bad_names import BAD_NAMES, SENDABLE
from tests.blobs import spec, write_blobs
from tests.e2e.driving import start, waiting_samples
from tests.e2e.stopping import until
from tests.integration.watched import Watched, watched

RUN, TOKEN = "names", "open-sesame"
SECRET = f"whsec_{base64.b64encode(bytes(range(32))).decode()}"
ENVIRONMENT = {
    "LABELLOOP_HTTP_PORT": "0",
    "LABELLOOP_HTTP_TOKEN": TOKEN,
    "LABELLOOP_WEBHOOK_URL": "http://127.0.0.1:9/",  # nothing listens: only results are sent
    "LABELLOOP_WEBHOOK_SECRET": SECRET,
}


@pytest.fixture
async def up(tmp_path: Path, nats_server: NatsServer) -> AsyncIterator[Watched]:
    """Services and a run that people label."""
    async with watched(tmp_path, nats_server, ENVIRONMENT) as services:
        people: dict[str, Any] = {"label_source": 2, "auto_label_budget": 0, "stopping_sample_count": 0}
        people |= {"protocol": Protocol.PROTOCOL_HONEST, "queue": QueueSpec()}
        await start(services.clients, RUN, spec(write_blobs(tmp_path), **people))

        async def asked() -> bool:
            return bool(await waiting_samples(services.clients, RUN))

        await until(asked)
        yield services


async def refused(call: Any) -> str:
    """Return the reason why a call is refused as invalid input."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    error = from_rpc(raised.value)
    assert isinstance(error, InvalidInput), raised.value
    return error.reason


async def dead_letters(up: Watched) -> int:
    return (await up.clients.oracle.ListDeadLetters(pb.ListDeadLettersRequest())).total


async def labels(up: Watched) -> list[Any]:
    return list(await up.clients.labels(RUN))


async def test_no_annotator_of_such_a_name_gets_in(up: Watched, nats_server: NatsServer) -> None:
    sample = (await waiting_samples(up.clients, RUN))[0]
    request_id, oracle = f"{RUN}/{sample.round}/{sample.sample_id}/0", up.clients.oracle
    for what, name in SENDABLE.items():
        result = pb.LabelResult(request_id=request_id, label=1, annotator=name)
        label = pb.SubmittedLabel(sample_id=sample.sample_id, label=1)
        skip = pb.SkippedSample(sample_id=sample.sample_id, kind=SkipKind.SKIP_KIND_SKIPPED)
        calls = [
            oracle.SubmitResults(pb.SubmitResultsRequest(results=[result])),
            oracle.SubmitLabels(pb.SubmitLabelsRequest(run_id=RUN, annotator=name, labels=[label])),
            oracle.SkipSamples(pb.SkipSamplesRequest(run_id=RUN, annotator=name, samples=[skip])),
            oracle.LeaseNext(pb.LeaseNextRequest(run_id=RUN, annotator=name)),
            oracle.ReleaseLeases(pb.ReleaseLeasesRequest(annotator=name, request_ids=[request_id])),
            oracle.CancelRequests(pb.CancelRequestsRequest(run_id=RUN, annotator=name, sample_ids=[sample.sample_id])),
        ]
        assert {await refused(call) for call in calls} <= {"BAD_ANNOTATOR", "ANNOTATOR_TOO_LONG"}, what
    await by_page(up)
    await by_webhook(up, request_id)
    await by_queue(up, nats_server, request_id)
    assert await labels(up) == []


async def by_page(up: Watched) -> None:
    own = {"X-Labelloop": "1", "Content-Type": "application/json"}
    url = f"http://127.0.0.1:{up.services['oracle'].http_port}"
    async with httpx.AsyncClient(base_url=url, headers=own) as client:
        for what, name in BAD_NAMES.items():
            answer = await client.post("/login", content=json.dumps({"token": TOKEN, "name": name}))
            assert (answer.status_code, answer.json()["reason"]) == (400, "BAD_NAME"), what
        for what, name in SENDABLE.items():
            answer = await client.get(f"/?token={TOKEN}&name={urllib.parse.quote(name)}")
            assert answer.status_code == 400, what
        assert not client.cookies


async def by_webhook(up: Watched, request_id: str) -> None:
    url = f"http://127.0.0.1:{up.services['oracle'].http_port}{RESULTS_PATH}"
    before, signatures = await dead_letters(up), Signatures([SECRET])
    results = [{"request_id": request_id, "label": 1, "annotator": name} for name in BAD_NAMES.values()]
    body = json.dumps({"type": SUBMITTED, "data": {"results": results}})
    async with httpx.AsyncClient() as client:
        answer = await client.post(url, content=body, headers=signatures.headers("msg_names", body))
    assert answer.json()["verdicts"] == ["refused"] * len(results)
    assert await dead_letters(up) == before + len(results)


async def by_queue(up: Watched, nats_server: NatsServer, request_id: str) -> None:
    before, client = await dead_letters(up), await connect_broker(nats_server.url, "test")
    for name in BAD_NAMES.values():
        said = json.dumps({"request_id": request_id, "label": 1, "annotator": name, "comment": "by queue"})
        await client.jetstream().publish(f"{RESULTS}.{RUN}", said.encode())
    await client.close()

    async def all_refused() -> bool:
        return await dead_letters(up) == before + len(BAD_NAMES)

    await until(all_refused)


async def test_no_run_class_sample_or_upload_of_such_a_name_gets_in(up: Watched, tmp_path: Path) -> None:
    blobs = write_blobs(tmp_path)
    for what, name in SENDABLE.items():
        named = spec(blobs)
        named.dataset.classes[:] = ["a", name, "c"]
        assert await refused(up.clients.trainer.StartRun(StartRunRequest(run_id="new", spec=named))) == "CLASS_NAMES", (
            what
        )
        assert (
            await refused(up.clients.trainer.StartRun(StartRunRequest(run_id=name, spec=spec(blobs)))) == "BAD_RUN_ID"
        )
        tool = spec(blobs, label_source=2, queue=QueueSpec(tool=name))
        assert await refused(up.clients.trainer.StartRun(StartRunRequest(run_id="new", spec=tool))) == "UNKNOWN_TOOL"
        upload = pb.PutUploadRequest(id=digest_of(b""), name=name, manifest_parts=[digest_of(b"")])
        assert await refused(up.clients.oracle.PutUpload(upload)) in ("BAD_NAME", "NAME_TOO_LONG")


async def test_files_that_hold_such_names_are_refused(up: Watched, tmp_path: Path) -> None:
    in_files = {what: name for what, name in SENDABLE.items() if "\0" not in name and what != "too long"}
    for number, (what, name) in enumerate(in_files.items()):
        classes, samples = tmp_path / f"classes{number}", tmp_path / f"samples{number}"
        for folder, file in ((classes / "a", "1"), (classes / name, "2"), (samples / "a", "1"), (samples / "b", name)):
            folder.mkdir(parents=True)
            Image.fromarray(np.full((8, 8), ord(file[-1]) % 256, np.uint8)).save(folder / f"{file}.png")
        table = tmp_path / f"table{number}.csv"
        with table.open("w", newline="", encoding="utf-8") as opened:
            rows: list[list[Any]] = [["x", "y", "class"], *([1.5 * row, 2, (name, "b")[row % 2]] for row in range(6))]
            csv.writer(opened, quoting=csv.QUOTE_ALL).writerows(rows)
        sources = (
            (DatasetSource(name=str(classes)), "CLASS_NAMES"),
            (DatasetSource(name=str(samples)), "BAD_SAMPLE_NAME"),
            (DatasetSource(name=str(table), label_column="class"), "CLASS_NAMES"),
        )
        for source, reason in sources:
            call = up.clients.oracle.DescribeDataset(pb.DescribeDatasetRequest(dataset=source))
            assert await refused(call) == reason, (what, source.name)
