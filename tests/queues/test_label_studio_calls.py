"""A real Label Studio that calls the oracle, and an annotator on its own page."""

from __future__ import annotations

import re
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from labelloop.oracle.v1.oracle_pb2 import LabelRequest
from playwright.async_api import Page, async_playwright
from pydantic import SecretStr
from starlette.applications import Starlette

from oracle_svc.integrations.label_studio.client import SECRET_HEADER
from oracle_svc.integrations.label_studio.endpoints import WEBHOOK_PATH
from oracle_svc.integrations.label_studio.integration import LabelStudio, LabelStudioSettings
from oracle_svc.integrations.label_studio.predictions import Prediction
from tests.ports import free_port
from tests.queues.http_server import served
from tests.queues.label_studio_log import FakeLog
from tests.queues.label_studio_tool import (
    LabelStudioServer,
    LabelStudioTool,
    needs_label_studio,
    running_label_studio,
)
from tests.queues.label_studio_venv import EMAIL, LEGACY_TOKEN, PASSWORD
from tests.queues.large_samples import shown_large_samples
from tests.queues.test_label_studio import PIXEL, serving

pytestmark = [
    needs_label_studio(),
    pytest.mark.timeout(1_200),
]
SECRET = "a secret of sixteen characters"
CLASSES = ("cat", "dog")
_CHROMIUM = shutil.which("chromium")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelStudioServer]:
    with running_label_studio(tmp_path_factory.mktemp("label-studio")) as running:
        yield running


@dataclass
class Called:
    """An integration that Label Studio calls at ``url``; it polls Label Studio only once."""

    queue: LabelStudio
    log: FakeLog
    url: str
    server: LabelStudioServer

    def request(self, sample_id: int) -> LabelRequest:
        place = f"called/0/{sample_id}"
        picture = {"media_type": "image/png", "content": PIXEL}
        return LabelRequest(request_id=place, run_id="called", sample_id=sample_id, classes=CLASSES, **picture)  # type: ignore[arg-type]

    @property
    def project(self) -> dict[str, Any]:
        return next(each for each in self.server.projects() if each["title"] == "labelloop called")


@pytest.fixture
async def called(server: LabelStudioServer) -> AsyncIterator[Called]:
    log, port = FakeLog(CLASSES), free_port()
    url = f"http://127.0.0.1:{port}"
    calls = {"webhook_url": url, "webhook_secret": SecretStr(SECRET), "poll_s": 3600}
    settings = LabelStudioSettings(url=server.url, token=SecretStr(LEGACY_TOKEN), **calls)  # type: ignore[arg-type]
    queue = LabelStudio(settings, log, lambda request_id: Prediction("dog", 0.75, "f" * 64) if request_id else None)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(queue.aclose)
        await stack.enter_async_context(served(Starlette(routes=queue.routes()), port))
        await stack.enter_async_context(serving(queue, log))
        made = Called(queue, log, url, server)
        await queue.push([made.request(sample_id) for sample_id in range(3)])
        yield made
    for project in server.projects():
        server.call("DELETE", f"/api/projects/{project['id']}/")


async def test_results_are_recorded_when_label_studio_calls_the_webhook(called: Called) -> None:
    tool = LabelStudioTool(called.server)
    await tool.requests()
    await tool.answer({"request_id": "called/0/1", "annotator": "kim", "label": 1})
    await called.log.until(lambda: len(called.log.recorded) == 1)
    await tool.answer({"request_id": "called/0/1", "annotator": "kim", "label": 0, "revision": 1})
    await called.log.until(lambda: len(called.log.recorded) == 2)
    await tool.answer({"request_id": "called/0/1", "annotator": "kim", "withdrawn": True})
    await called.log.until(lambda: len(called.log.recorded) == 3)
    said = [("kim@example.com", "dog", 0), ("kim@example.com", "cat", 1), ("kim@example.com", "withdrawn", 2)]
    assert called.log.words("called/0/1") == said


async def test_webhook_calls_need_the_secret_and_get_503_if_recording_fails(called: Called) -> None:
    body = {"action": "ANNOTATION_CREATED", "project": {"id": called.project["id"]}}
    async with httpx.AsyncClient(base_url=called.url) as client:
        assert (await client.post(WEBHOOK_PATH, json=body)).status_code == 401
        assert (await client.post(WEBHOOK_PATH, json=body, headers={SECRET_HEADER: "wrong"})).status_code == 401
        assert (await client.post(WEBHOOK_PATH, content=b"[", headers={SECRET_HEADER: SECRET})).status_code == 400
        assert (await answered(client, body)).status_code == 200
        called.log.away = True
        tool = LabelStudioTool(called.server)
        await tool.requests()
        await tool.answer({"request_id": "called/0/2", "annotator": "kim", "label": 1})
        answer = await answered(client, body)
        assert (answer.status_code, answer.json()["reason"]) == (503, "AWAY")
        called.log.away = False
        assert (await answered(client, body)).status_code == 200
        assert called.log.words("called/0/2") == [("kim@example.com", "dog", 0)]


async def answered(client: httpx.AsyncClient, body: dict[str, Any]) -> httpx.Response:
    """The response to a webhook call, repeated while the oracle has not finished reading results (NOT_YET)."""
    while True:
        answer = await client.post(WEBHOOK_PATH, json=body, headers={SECRET_HEADER: SECRET})
        if answer.json().get("reason") != "NOT_YET":
            return answer


async def test_label_studio_takes_predictions_from_the_ml_backend(called: Called) -> None:
    """Connected as on its settings page: it requests health and set-up, then predictions for tasks."""
    backend = {
        "project": called.project["id"],
        "url": f"{called.url}/label-studio/ml",
        "title": "labelloop",
        "is_interactive": True,
        "auth_method": "BASIC_AUTH",
        "basic_auth_user": "label-studio",
        "basic_auth_pass": SECRET,
    }
    async with httpx.AsyncClient(
        base_url=called.server.url, headers={"Authorization": f"Token {LEGACY_TOKEN}"}, timeout=60
    ) as api:
        made = await api.post("/api/ml/", json=backend)
        assert made.status_code == 201, made.text
        query = {"project": called.project["id"], "fields": "all"}
        task = (await api.get("/api/tasks", params=query)).json()["tasks"][0]
        asked = await api.post(f"/api/ml/{made.json()['id']}/interactive-annotating", json={"task": task["id"]})
        assert asked.json()["data"]["result"][0]["value"]["choices"] == ["dog"], asked.text
        action = {"id": "retrieve_tasks_predictions", "project": called.project["id"]}
        some = {"selectedItems": {"all": False, "included": [task["id"]]}}
        assert (await api.post("/api/dm/actions", params=action, json=some)).status_code == 200
        task = (await api.get(f"/api/tasks/{task['id']}/")).json()
        assert [each["result"][0]["value"]["choices"] for each in task["predictions"]] == [["dog"]]


@asynccontextmanager
async def at_label_studio(server: LabelStudioServer) -> AsyncIterator[Page]:
    """A page with its owner signed in."""
    if _CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    async with async_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
        quiet = ["--disable-background-networking", "--disable-component-update"]
        browser = await playwright.chromium.launch(executable_path=_CHROMIUM, args=arguments + quiet)
        page = await browser.new_page(viewport={"width": 1280, "height": 900})
        await page.goto(f"{server.url}/user/login/")
        await page.fill("input[name=email]", EMAIL)
        await page.fill("input[name=password]", PASSWORD)
        await page.keyboard.press("Enter")
        await page.wait_for_url(lambda url: "login" not in url)
        yield page
        await browser.close()


async def test_a_label_chosen_on_label_studios_own_page_is_recorded(called: Called, tmp_path: Path) -> None:
    async with at_label_studio(called.server) as page:
        await page.goto(f"{called.server.url}/projects/{called.project['id']}/data?labeling=1")
        await page.get_by_text(re.compile("^dog")).first.click(timeout=60_000)
        await page.screenshot(path=tmp_path / "label_studio.png")
        await page.locator("button[name=submit]").click()
        await called.log.until(lambda: len(called.log.recorded) == 1)
    [word] = called.log.recorded
    assert (word.request_id, word.annotator, word.class_name) == ("called/0/0", EMAIL, "dog")


async def test_label_studios_own_page_shows_a_sample_given_by_link(called: Called, tmp_path: Path) -> None:
    async with shown_large_samples(tmp_path) as (linked, _, _), at_label_studio(called.server) as page:
        request = called.request(3)
        request.ClearField("content")
        request.uri = linked.uri
        await called.queue.push([request])
        [task] = [each for each in called.server.tasks(called.project["id"]) if each["data"]["image"] == linked.uri]
        await page.goto(f"{called.server.url}/projects/{called.project['id']}/data?task={task['id']}")
        await page.get_by_text(re.compile("^dog")).first.wait_for(timeout=60_000)
        await page.wait_for_function("[...document.images].some((each) => each.naturalWidth === 555)", timeout=60_000)
