"""The Label Studio integration with a real broker and event log, against a fake of its API."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path

import httpx
import pytest
from labelloop.oracle.v1.oracle_pb2 import LabelRequest
from labelloop_cli.local.nats.server import NatsServer
from starlette.applications import Starlette

from oracle_svc.__main__ import serve
from oracle_svc.bootstrap import Oracle
from oracle_svc.config import OracleSettings
from oracle_svc.integrations.label_studio.client import SECRET_HEADER, LabelStudioClient
from oracle_svc.integrations.label_studio.endpoints import WEBHOOK_PATH
from oracle_svc.integrations.label_studio.integration import LabelStudio
from oracle_svc.integrations.label_studio.labeling_config import check_classes
from oracle_svc.integrations.label_studio.project import Project
from oracle_svc.integrations.label_studio.rest import LabelStudioHttp
from tests.integration.label_studio_runs import serving
from tests.integration.one_oracle import ask, oracle, until
from tests.queues.cutting_proxy import CuttingProxy
from tests.queues.fake_label_studio import PROJECT, FakeLabelStudio, fake_label_studio

CLASSES = ("a", "b", "c")
SECRET = "a secret of sixteen characters"


@pytest.fixture
async def studio(
    nats_server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[FakeLabelStudio]:
    """A fake Label Studio that is asked for three samples."""
    await ask(nats_server, tmp_path, [7, 3, 5])
    async with fake_label_studio(CLASSES) as (made, url):
        settings = {"URL": url, "TOKEN": "legacy", "PROJECT": str(PROJECT), "POLL_S": "0.05", "WEBHOOK_SECRET": SECRET}
        for name, value in settings.items():
            monkeypatch.setenv(f"LABELLOOP_LABEL_STUDIO_{name}", value)
        yield made


def labels(one: Oracle) -> dict[int, int]:
    """The current labels of run r, by sample."""
    return {key: outcome.label for key, outcome in one.projections.get("r").answers.standing.items()}  # type: ignore[union-attr]


@pytest.mark.parametrize(("status", "said"), [(401, "does not take the token"), (404, "has no project 7")])
async def test_that_no_results_can_be_read_is_noted_though_all_requests_are_there(
    nats_server: NatsServer, tmp_path: Path, studio: FakeLabelStudio, status: int, said: str
) -> None:
    async with oracle(nats_server, tmp_path) as one, serving(one):
        await studio.asked.wait()
        assert one.hold_ups() == []
        studio.gone = status
        await until(lambda: bool(one.hold_ups()))
        [away] = one.hold_ups()
        assert (away.tool, away.direction) == ("label-studio", "results")
        assert said in away.problem
        assert "legacy" not in away.problem.replace("legacy tokens", "")
        studio.gone = 0
        await until(lambda: not one.hold_ups())


async def test_tasks_without_a_valid_request_become_dead_letters_and_block_no_others(
    nats_server: NatsServer, tmp_path: Path, studio: FakeLabelStudio
) -> None:
    studio.label("nobody/0/3", "a")
    studio.label("no request", "a")
    studio.label("r/0/7", "b")
    async with oracle(nats_server, tmp_path) as one, serving(one):
        await until(lambda: labels(one) == {7: 1})
        studio.label("r/0/3", "c")
        await until(lambda: labels(one) == {7: 1, 3: 2})
        letters = one.dead_letters.letters.values()
    assert {letter.reason for letter in letters} == {"UNKNOWN_RUN", "BAD_REQUEST_ID"}


async def test_webhook_is_answered_while_label_studio_is_slow_and_the_label_follows(
    nats_server: NatsServer, tmp_path: Path, studio: FakeLabelStudio
) -> None:
    async with oracle(nats_server, tmp_path) as one, serving(one) as queue:
        studio.free.clear()
        studio.asked.clear()
        await studio.asked.wait()  # a poll is under way, and will not end by itself
        task = studio.label("r/0/7", "b")
        answer = await call(queue, task)
        assert (answer.status_code, answer.json()["reason"], labels(one)) == (503, "NOT_YET", {})
        studio.free.set()
        await until(lambda: labels(one) == {7: 1})


async def test_webhook_succeeds_once_its_label_is_in_the_log(
    nats_server: NatsServer, tmp_path: Path, studio: FakeLabelStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABELLOOP_LABEL_STUDIO_POLL_S", "3600")
    async with oracle(nats_server, tmp_path) as one, serving(one) as queue:
        await studio.asked.wait()
        task = studio.label("r/0/7", "b")
        answer = await call(queue, task)
        while answer.status_code == 503:  # on a slow machine
            answer = await call(queue, task)
        assert (answer.status_code, labels(one)) == (200, {7: 1})


@asynccontextmanager
async def a_project() -> AsyncIterator[Project]:
    """The project as known to an oracle that has just opened it."""
    async with aclosing(
        LabelStudioClient(LabelStudioHttp(os.environ["LABELLOOP_LABEL_STUDIO_URL"], "legacy"))
    ) as client:
        control, annotators = await client.control(PROJECT)
        yield Project(client, PROJECT, check_classes(control, CLASSES, PROJECT), annotators)


def picture(request_id: str) -> LabelRequest:
    return LabelRequest(request_id=request_id, media_type="image/png")


async def test_reading_a_later_task_first_does_not_hide_earlier_tasks(studio: FakeLabelStudio) -> None:
    first, second = studio.label("r/0/7", "b"), studio.label("r/0/3", "b")
    async with a_project() as project:
        assert [task.id for [task] in await project.some([second])] == [second] != [first]
        await project.put([picture("r/0/7")])
    assert studio.imported == []


async def test_task_with_the_id_of_a_removed_one_is_not_imported_again(studio: FakeLabelStudio) -> None:
    async with a_project() as ours, a_project() as theirs:
        await ours.put([picture("r/0/7")])
        await ours.take_out(["r/0/7"])
        await theirs.put([picture("r/0/3")])
        await ours.put([picture("r/0/3")])
    assert studio.imported == ["r/0/7", "r/0/3"]


async def call(queue: LabelStudio, task: int) -> httpx.Response:
    """Call the webhook as Label Studio does after an annotation in ``task``."""
    body = {"action": "ANNOTATION_CREATED", "project": {"id": PROJECT}, "task": {"id": task}}
    transport = httpx.ASGITransport(Starlette(routes=queue.routes()))
    async with httpx.AsyncClient(transport=transport, base_url="http://oracle") as client:
        return await client.post(WEBHOOK_PATH, json=body, headers={SECRET_HEADER: SECRET})


async def test_oracle_that_stops_closes_its_connections_to_the_tool(
    nats_server: NatsServer, tmp_path: Path, studio: FakeLabelStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABELLOOP_HTTP_PORT", "0")
    monkeypatch.setenv("LABELLOOP_HTTP_TOKEN", "a token of a page")
    monkeypatch.setenv("LABELLOOP_LABEL_STUDIO_POLL_S", "3600")
    studio.label("r/0/7", "b")
    port = httpx.URL(os.environ["LABELLOOP_LABEL_STUDIO_URL"]).port or 0
    async with oracle(nats_server, tmp_path) as one, CuttingProxy(port) as wire:
        monkeypatch.setenv("LABELLOOP_LABEL_STUDIO_URL", wire.url)
        serving = asyncio.create_task(serve(OracleSettings(nats_url=nats_server.url, cache_dir=tmp_path, port=0)))
        await until(lambda: labels(one) == {7: 1})  # so it has read all annotations
        serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving
        await until(lambda: wire.closed == wire.connections)
