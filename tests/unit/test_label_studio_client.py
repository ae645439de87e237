"""The oracle's calls of Label Studio's API, and how responses are read."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from oracle_svc.integrations.label_studio.client import SECRET_HEADER, LabelStudioClient
from oracle_svc.integrations.label_studio.labeling_config import Control, config_of
from oracle_svc.integrations.label_studio.rest import LabelStudioHttp

CONTROL = Control("label", "image", "image", ("cat", "dog"))
HOOK = "http://oracle.example/label-studio/webhook"
AT = "2026-01-02T03:04:05.000000Z"


class Studio:
    """Respond to calls as set by ``on``; ``asked`` holds method, path, query and JSON of all calls."""

    def __init__(self) -> None:
        self._answers: dict[tuple[str, str], Callable[[dict[str, str]], Any]] = {}
        self.asked: list[tuple[str, str, dict[str, str], Any]] = []

    def on(self, method: str, path: str, answer: Callable[[dict[str, str]], Any]) -> None:
        self._answers[method, path] = answer

    def __call__(self, request: httpx.Request) -> httpx.Response:
        query = dict(request.url.params)
        sent = json.loads(request.content) if request.content else None
        self.asked.append((request.method, request.url.path, query, sent))
        answer = self._answers[request.method, request.url.path](query)
        return httpx.Response(204) if answer is None else httpx.Response(200, json=answer)


@pytest.fixture
def studio() -> Studio:
    return Studio()


@pytest.fixture
async def client(studio: Studio) -> AsyncIterator[LabelStudioClient]:
    made = LabelStudioClient(LabelStudioHttp("http://studio.example", "legacy", transport=httpx.MockTransport(studio)))
    yield made
    await made.aclose()


async def test_a_project_gives_its_control_and_number_of_annotators(studio: Studio, client: LabelStudioClient) -> None:
    config = config_of(("cat", "dog"))
    studio.on("GET", "/api/projects/3/", lambda _: {"id": 3, "label_config": config, "maximum_annotations": 2})
    studio.on("GET", "/api/projects/4/", lambda _: {"id": 4, "label_config": None})
    control, annotators = await client.control(3)
    assert (control, annotators) == (CONTROL, 2)
    assert await client.control(4) == (None, 1)


async def test_own_projects_are_read_from_all_pages_in_order_of_id(studio: Studio, client: LabelStudioClient) -> None:
    pages = {
        "1": {"results": [{"id": 9, "title": "labelloop b"}, {"id": 8, "title": "not labelloop"}], "next": "page 2"},
        "2": {"results": [{"id": 2, "title": "labelloop a"}, {"id": 3, "title": None}], "next": None},
    }
    studio.on("GET", "/api/projects/", lambda query: pages[query["page"]])
    found = await client.projects()
    assert list(found.items()) == [(2, "labelloop a"), (9, "labelloop b")]


@pytest.mark.parametrize(("there", "method", "path"), [(False, "POST", ""), (True, "PATCH", "5/")])
async def test_the_webhook_of_a_project_is_created_or_updated(
    studio: Studio, client: LabelStudioClient, there: bool, method: str, path: str
) -> None:
    others = {"id": 4, "url": "http://elsewhere.example/"}
    studio.on("GET", "/api/webhooks/", lambda _: [others, *([{"id": 5, "url": HOOK}] if there else [])])
    studio.on(method, f"/api/webhooks/{path}", lambda _: {})
    await client.ensure_webhook(7, HOOK, "a secret")
    looked, made = studio.asked
    assert looked[2] == {"project": "7"}
    assert made[3]["headers"] == {SECRET_HEADER: "a secret"}
    assert made[3]["url"] == HOOK
    assert made[3].get("project") == (None if there else 7)


async def test_tasks_are_read_page_by_page_after_the_last_id(studio: Studio, client: LabelStudioClient) -> None:
    def tasks(query: dict[str, str]) -> Any:
        said = {"from_name": "label", "value": {"choices": ["dog"]}}
        annotation = {"id": 1, "updated_at": AT, "completed_by": 6, "was_cancelled": False, "result": [said]}
        last = json.loads(query["query"])["filters"]["items"][0]["value"]
        task = {"id": last + 3, "meta": {"labelloop_request_id": "r/0/1"}, "created_at": AT, "updated_at": AT}
        full = {**task, "overlap": 2, "annotations": [annotation]}
        return {"tasks": [full] if last < 9 else [], "total": 3}

    studio.on("GET", "/api/tasks/", tasks)
    studio.on("GET", "/api/users/", lambda _: [{"id": 6, "email": "kim@example.com"}])
    found = await client.tasks(7, CONTROL, since=AT, after_id=3, ids=[6, 9])
    assert [task.id for task in found] == [6, 9]
    assert {(task.request_id, task.overlap) for task in found} == {("r/0/1", 2)}
    assert {(each.user, each.shown, each.class_name) for task in found for each in task.annotations} == {
        (6, "kim@example.com", "dog")
    }
    query = json.loads(studio.asked[0][2]["query"])
    assert query["selectedItems"] == {"all": False, "included": [6, 9]}
    assert query["ordering"] == ["tasks:id"]
    assert [(item["filter"], item["value"]) for item in query["filters"]["items"]] == [
        ("filter:tasks:id", 3),
        ("filter:tasks:updated_at", AT),
    ]
    assert "data" not in studio.asked[0][2]["include"].split(",")
    assert await client.tasks(7, CONTROL, ids=[]) == []
    await client.tasks(7, CONTROL)
    assert sum(path == "/api/users/" for _, path, _, _ in studio.asked) == 1  # cached


async def test_projects_are_created_and_tasks_imported_changed_and_deleted(
    studio: Studio, client: LabelStudioClient
) -> None:
    studio.on("POST", "/api/projects/7/import", lambda _: {"task_count": 1})
    studio.on("PATCH", "/api/tasks/3/", lambda _: {})
    studio.on("DELETE", "/api/tasks/3/", lambda _: None)
    studio.on("POST", "/api/projects/", lambda _: {"id": 7})
    await client.create_project("labelloop r", "<View/>", 2)
    await client.import_tasks(7, [{"data": {"image": "data:,"}}])
    await client.ask_more(3, 4)
    await client.delete_task(3)
    assert [sent for _, _, _, sent in studio.asked[1:]] == [
        [{"data": {"image": "data:,"}}],
        {"overlap": 4, "is_labeled": False},
        None,
    ]
    made = studio.asked[0][3]
    assert (made["title"], made["label_config"], made["maximum_annotations"]) == ("labelloop r", "<View/>", 2)
    assert not {"expert_instruction", "show_instruction"} & made.keys()


async def test_a_project_shows_the_guidelines(studio: Studio, client: LabelStudioClient) -> None:
    studio.on("POST", "/api/projects/", lambda _: {"id": 7})
    await client.create_project("labelloop r", "<View/>", 1, "<p>Only cats.</p>")
    made = studio.asked[0][3]
    assert (made["expert_instruction"], made["show_instruction"]) == ("<p>Only cats.</p>", True)
