"""The integration with a real local Label Studio: the tasks it creates and the annotation results it records."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from labelloop.errors import InvalidInput, NotAllowed, NotFound, Unready
from labelloop.events.v1.events_pb2 import SkipKind
from labelloop.oracle.v1.oracle_pb2 import LabelRequest, LabelRetraction, Prediction
from pydantic import SecretStr

from oracle_svc.integrations.base import Integration
from oracle_svc.integrations.label_studio.integration import LabelStudio, LabelStudioSettings, _gone
from oracle_svc.integrations.label_studio.labeling_config import config_of
from oracle_svc.integrations.label_studio.predictions import Prediction as ModelPrediction
from tests.integration.one_oracle import until
from tests.queues.cutting_proxy import CuttingProxy
from tests.queues.label_studio_log import FakeLog
from tests.queues.label_studio_tool import (
    LabelStudioServer,
    LabelStudioTool,
    choice,
    needs_label_studio,
    running_label_studio,
)
from tests.queues.label_studio_venv import LEGACY_TOKEN
from tests.queues.tool import Tool

pytestmark = [
    needs_label_studio(),
    pytest.mark.timeout(1_200),
]

CLASSES = ('cat & "dog"', "<zebra>", "plain")
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c4944415408d763f8cfc0000003010100"
    "18dd8db00000000049454e44ae426082"
)
_runs = count()
_made: list[LabelStudio] = []


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelStudioServer]:
    with running_label_studio(tmp_path_factory.mktemp("label-studio")) as running:
        yield running


@pytest.fixture
async def run_id(server: LabelStudioServer) -> AsyncIterator[str]:
    """Yield a run id, then delete all projects, which the next test's log does not know."""
    yield f"run-{next(_runs)}"
    while _made:
        await _made.pop().aclose()
    server.start()  # a failed test may have left it stopped
    for project in server.call("GET", "/api/projects", params={"page_size": 1000})["results"]:
        server.call("DELETE", f"/api/projects/{project['id']}/")


@pytest.fixture
def log() -> FakeLog:
    return FakeLog(CLASSES)


@pytest.fixture
def tool(server: LabelStudioServer) -> LabelStudioTool:
    return LabelStudioTool(server)


def adapter(
    server: LabelStudioServer, log: FakeLog, prediction: ModelPrediction | None = None, **settings: Any
) -> LabelStudio:
    given = {"url": server.url, "token": SecretStr(LEGACY_TOKEN), "poll_s": 0.3, **settings}
    _made.append(LabelStudio(LabelStudioSettings(**given), log, lambda request_id: prediction))
    return _made[-1]


def asked(run_id: str, samples: range, annotators: int = 1, **more: Any) -> list[LabelRequest]:
    return [
        LabelRequest(
            request_id=f"{run_id}/0/{sample}",
            run_id=run_id,
            sample_id=sample,
            media_type="image/png",
            content=PIXEL,
            sha256=f"{sample:064x}",
            classes=CLASSES,
            priority=place,
            annotator_count=annotators,
            **more,
        )
        for place, sample in enumerate(samples)
    ]


@asynccontextmanager
async def serving(queue: LabelStudio, log: FakeLog) -> AsyncIterator[None]:
    task = asyncio.create_task(queue.serve(log))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def project_of(server: LabelStudioServer, run_id: str) -> dict[str, Any]:
    (found,) = (each for each in server.projects() if each["title"] == f"labelloop {run_id}")
    return found


def tasks_of(server: LabelStudioServer, run_id: str) -> list[dict[str, Any]]:
    return server.tasks(project_of(server, run_id)["id"])


async def test_the_integration_and_the_tool_implement_their_protocols(
    server: LabelStudioServer, log: FakeLog, tool: LabelStudioTool
) -> None:
    queue: Integration = adapter(server, log)
    under_test: Tool = tool
    assert queue.name == under_test.name


async def test_requests_become_ordered_tasks_in_a_project_of_the_run(
    server: LabelStudioServer, log: FakeLog, run_id: str
) -> None:
    prediction = Prediction(label=1, confidence=0.75, model_sha256="ab" * 32)
    await adapter(server, log).push(asked(run_id, range(7, 3, -1), annotators=2, prediction=prediction))
    project, tasks = project_of(server, run_id), tasks_of(server, run_id)
    choices = project["parsed_label_config"]["label"]["labels"]
    assert (tuple(choices), project["maximum_annotations"]) == (CLASSES, 2)
    assert [task["data"]["labelloop_request_id"] for task in tasks] == [f"{run_id}/0/{i}" for i in (7, 6, 5, 4)]
    assert tasks[0]["data"]["labelloop_digest"] == f"{7:064x}"
    assert tasks[0]["data"]["image"].startswith("data:image/png;base64,iVBOR")
    assert [task["overlap"] for task in tasks] == [2] * 4
    (said,) = tasks[0]["predictions"]
    assert (said["result"], said["score"], said["model_version"]) == (choice("<zebra>"), 0.75, "ab" * 32)


async def test_requests_are_not_imported_twice(server: LabelStudioServer, log: FakeLog, run_id: str) -> None:
    queue = adapter(server, log)
    await queue.push(asked(run_id, range(3)))
    await queue.push(asked(run_id, range(1, 5)))
    await adapter(server, log).push(asked(run_id, range(6)))  # another oracle, without state
    await queue.push(asked(run_id, range(6)))
    assert [task["data"]["labelloop_request_id"] for task in tasks_of(server, run_id)] == [
        f"{run_id}/0/{i}" for i in range(6)
    ]


async def test_a_deleted_task_is_imported_again(server: LabelStudioServer, log: FakeLog, run_id: str) -> None:
    queue = adapter(server, log)
    await queue.push(asked(run_id, range(2)))
    server.call("DELETE", f"/api/tasks/{tasks_of(server, run_id)[0]['id']}/")
    await queue.push(asked(run_id, range(2)))
    assert [task["data"]["labelloop_request_id"] for task in tasks_of(server, run_id)] == [
        f"{run_id}/0/1",
        f"{run_id}/0/0",
    ]


async def test_a_deleted_task_is_missed_at_the_next_look(server: LabelStudioServer, log: FakeLog, run_id: str) -> None:
    queue = adapter(server, log)
    await queue.push(asked(run_id, range(3)))
    log.pushed[run_id] = [f"{run_id}/0/{i}" for i in range(3)]
    server.call("DELETE", f"/api/tasks/{tasks_of(server, run_id)[1]['id']}/")
    async with serving(queue, log):
        await until(lambda: log.lost == [f"{run_id}/0/1"])


async def test_the_requests_of_a_deleted_project_are_missed_at_the_next_look(
    server: LabelStudioServer, log: FakeLog, run_id: str
) -> None:
    queue = adapter(server, log)
    await queue.push(asked(run_id, range(2)))
    async with serving(queue, log):
        await until(lambda: bool(queue._projects))
        log.pushed[run_id] = [f"{run_id}/0/{i}" for i in range(2)]
        server.call("DELETE", f"/api/projects/{project_of(server, run_id)['id']}/")
        await until(lambda: log.lost == log.pushed[run_id])
        await queue.push(asked(run_id, range(2)))
    assert len(tasks_of(server, run_id)) == 2


async def test_a_deleted_configured_project_is_said_in_words(
    server: LabelStudioServer, log: FakeLog, run_id: str
) -> None:
    config = config_of(CLASSES)
    project = server.call("POST", "/api/projects", json={"title": "somebody's", "label_config": config})["id"]
    queue = adapter(server, log, project=project)
    await queue.push(asked(run_id, range(2)))
    log.pushed[run_id] = [f"{run_id}/0/{i}" for i in range(2)]
    async with serving(queue, log):
        await until(lambda: log.notices.get(run_id) == ())
        server.call("DELETE", f"/api/projects/{project}/")
        await until(lambda: bool(log.notices[run_id]))
    assert log.notices[run_id] == [_gone(project, fixed=True)]
    await queue.retract([LabelRetraction(request_id=f"{run_id}/0/0")])
    with pytest.raises(NotFound, match="let LABELLOOP_LABEL_STUDIO_PROJECT name one"):
        await queue.push(asked(run_id, range(2)))


@pytest.mark.parametrize("way", ["deleted", "removed from the organisation", "renamed"])
async def test_the_labels_of_an_account_stay_theirs_whatever_becomes_of_it(
    server: LabelStudioServer, log: FakeLog, tool: LabelStudioTool, run_id: str, way: str
) -> None:
    queue = adapter(server, log)
    await queue.push(asked(run_id, range(4)))
    await tool.requests()
    async with serving(queue, log):
        for i in range(3):
            await tool.answer({"request_id": f"{run_id}/0/{i}", "annotator": way.split()[0], "label": 0})
        await log.until(lambda: len(log.recorded) == 3)
    user = tool.user(way.split()[0])
    if way == "deleted":
        server.call("DELETE", f"/api/users/{user}/")
    elif way == "renamed":
        server.rename(user, "another@example.com")
        await tool.answer({"request_id": f"{run_id}/0/3", "annotator": "renamed", "label": 0})
    else:
        organisation = server.call("GET", "/api/organizations/")[0]["id"]
        server.call("DELETE", f"/api/organizations/{organisation}/memberships/{user}/")
    for _ in range(2):  # an oracle that is started again reads all tasks
        async with serving(adapter(server, log), log):
            await tool.answer({"request_id": f"{run_id}/0/3", "annotator": "lee", "label": 1})
            await log.until(lambda: bool(log.words(f"{run_id}/0/3")))
    kept = [word for i in range(3) for word in log.words(f"{run_id}/0/{i}")]
    assert kept == [(f"{way.split()[0]}@example.com", CLASSES[0], 0)] * 3
    assert {name for name, _, _ in log.words(f"{run_id}/0/3")} <= {"renamed@example.com", "lee@example.com"}


async def test_many_deleted_annotations_are_held_and_few_are_withdrawn(
    server: LabelStudioServer, log: FakeLog, tool: LabelStudioTool, run_id: str
) -> None:
    queue = adapter(server, log)
    await queue.push(asked(run_id, range(8)))
    await tool.requests()
    requests = [f"{run_id}/0/{i}" for i in range(8)]
    async with serving(queue, log):
        for request_id in requests:
            await tool.answer({"request_id": request_id, "annotator": "kim", "label": 0})
        await log.until(lambda: len(log.recorded) == 8)
    for request_id in requests[:7]:
        await tool.answer({"request_id": request_id, "annotator": "kim", "withdrawn": True})
    async with serving(adapter(server, log), log):
        await until(lambda: len(log.held.get(run_id, ())) == 7)
        for request_id in requests[:4]:
            await tool.answer({"request_id": request_id, "annotator": "kim", "label": 0})
        last = [*["class_name"] * 4, *["withdrawn"] * 3, "class_name"]
        await until(lambda: [log.said(each)[0].WhichOneof("answer") for each in requests] == last)
        assert not log.held[run_id]


async def test_a_renamed_class_is_said_and_an_alias_keeps_its_results(
    server: LabelStudioServer, log: FakeLog, tool: LabelStudioTool, run_id: str
) -> None:
    queue = adapter(server, log)
    await queue.push(asked(run_id, range(2)))
    await tool.requests()
    log.pushed[run_id] = []
    project, config = project_of(server, run_id)["id"], config_of(CLASSES)
    async with serving(queue, log):
        renamed = config.replace('value="plain"', 'value="simple"')
        server.call("PATCH", f"/api/projects/{project}/", json={"label_config": renamed})
        await until(lambda: bool(log.notices.get(run_id)))
        [notice] = log.notices[run_id]
        assert "lacks 'plain' as choices" in notice
        assert 'value="simple" alias="plain"' in notice
        aliased = config.replace('value="plain"', 'value="simple" alias="plain"')
        server.call("PATCH", f"/api/projects/{project}/", json={"label_config": aliased})
        await until(lambda: not log.notices[run_id])
        await tool.answer({"request_id": f"{run_id}/0/0", "annotator": "kim", "class_name": "plain"})
        await log.until(lambda: len(log.recorded) == 1)
    assert log.words(f"{run_id}/0/0") == [("kim@example.com", "plain", 0)]


async def test_a_deleted_project_is_created_again(server: LabelStudioServer, log: FakeLog, run_id: str) -> None:
    queue = adapter(server, log)
    await queue.push(asked(run_id, range(2)))
    server.call("DELETE", f"/api/projects/{project_of(server, run_id)['id']}/")
    await queue.retract([LabelRetraction(request_id=f"{run_id}/0/0")])
    await queue.push(asked(run_id, range(2)))
    assert len(tasks_of(server, run_id)) == 2


async def test_an_import_whose_response_is_lost_is_not_repeated(
    server: LabelStudioServer, log: FakeLog, run_id: str
) -> None:
    async with CuttingProxy(server.port) as proxy:
        queue = adapter(server, log, url=proxy.url)
        await queue.push(asked(run_id, range(1)))
        proxy.cut(b"/import")
        with pytest.raises(Unready, match="does not answer"):
            await queue.push(asked(run_id, range(3)))
        assert proxy.cuts == 1
        await queue.push(asked(run_id, range(3)))
    assert len(tasks_of(server, run_id)) == 3


async def test_labels_edits_skips_and_deletions_are_each_recorded_once(
    server: LabelStudioServer, log: FakeLog, tool: LabelStudioTool, run_id: str
) -> None:
    queue, first = adapter(server, log), f"{run_id}/0/0"
    await queue.push(asked(run_id, range(2)))
    await tool.requests()
    steps: list[tuple[dict[str, Any], tuple[str, str, int]]] = [
        ({"label": 0, "time_spent_s": 3.5}, ("kim@example.com", CLASSES[0], 0)),
        ({"label": 1, "revision": 1}, ("kim@example.com", CLASSES[1], 1)),
        ({"skip": "SKIP_KIND_SKIPPED", "revision": 2}, ("kim@example.com", "skip", 2)),
        ({"label": 2, "revision": 3}, ("kim@example.com", CLASSES[2], 3)),
        ({"withdrawn": True}, ("kim@example.com", "withdrawn", 4)),
        ({"label": 2}, ("kim@example.com", CLASSES[2], 5)),
    ]
    async with serving(queue, log):
        for i, (said, expected) in enumerate(steps):
            await tool.answer({"request_id": first, "annotator": "kim", **said})
            await log.until(lambda wanted=i + 1: len(log.recorded) >= wanted)  # type: ignore[misc]
            assert log.words(first)[-1] == expected
        await tool.answer({"request_id": f"{run_id}/0/1", "annotator": "kim", "label": 1})
        await log.until(lambda: len(log.recorded) > len(steps))
    assert len(log.recorded) == len(steps) + 1
    assert log.recorded[0].time_spent_s == 3.5
    assert log.recorded[2].skip == SkipKind.SKIP_KIND_SKIPPED
    annotation = tasks_of(server, run_id)[0]["annotations"][0]
    assert log.recorded[5].source_event_id == f"annotation:{annotation['id']}:{annotation['updated_at']}"


async def test_a_restarted_oracle_continues_the_revisions_of_the_log(
    server: LabelStudioServer, log: FakeLog, tool: LabelStudioTool, run_id: str
) -> None:
    queue = adapter(server, log)
    edited, deleted, kept, retracted = (f"{run_id}/0/{i}" for i in range(4))
    await queue.push(asked(run_id, range(4)))
    await tool.requests()
    async with serving(queue, log):
        for request_id in (edited, deleted, kept, retracted):
            await tool.answer({"request_id": request_id, "annotator": "kim", "label": 0})
        await log.until(lambda: len(log.recorded) == 4)
    for revision in (1, 2, 1):  # only the last counts
        await tool.answer({"request_id": edited, "annotator": "kim", "label": revision, "revision": 1})
    await tool.answer({"request_id": deleted, "annotator": "kim", "withdrawn": True})
    server.call("DELETE", f"/api/tasks/{tasks_of(server, run_id)[3]['id']}/")  # a user deletes it
    async with serving(adapter(server, log), log):
        await log.until(lambda: len(log.recorded) == 6)
        await tool.answer({"request_id": edited, "annotator": "kim", "label": 0, "revision": 1})
        await log.until(lambda: len(log.recorded) == 7)
    assert log.words(edited) == [("kim@example.com", CLASSES[label], i) for i, label in enumerate((0, 1, 0))]
    assert log.words(deleted)[1:] == [("kim@example.com", "withdrawn", 1)]
    assert (len(log.words(kept)), len(log.words(retracted)), log.repeated) == (1, 1, 0)


async def test_a_result_with_an_unknown_class_is_passed_on_once(
    server: LabelStudioServer, log: FakeLog, tool: LabelStudioTool, run_id: str
) -> None:
    queue, first = adapter(server, log), f"{run_id}/0/0"
    await queue.push(asked(run_id, range(2)))
    await tool.requests()
    async with serving(queue, log):
        await tool.answer({"request_id": first, "annotator": "kim", "class_name": "eleven"})
        await log.until(lambda: bool(log.refused))
        for i in range(3):  # further polls
            await tool.answer({"request_id": f"{run_id}/0/1", "annotator": "kim", "label": i % 3, "revision": i})
            await log.until(lambda wanted=i + 1: len(log.recorded) == wanted)  # type: ignore[misc]
        await tool.answer({"request_id": first, "annotator": "kim", "label": 2, "revision": 1})
        await log.until(lambda: len(log.recorded) == 4)
    assert [each.class_name for each in log.refused] == ["eleven"]
    assert log.words(first) == [("kim@example.com", CLASSES[2], 0)]


async def test_duplicate_tasks_are_one_request_and_foreign_tasks_are_ignored(
    server: LabelStudioServer, log: FakeLog, tool: LabelStudioTool, run_id: str
) -> None:
    queue, first = adapter(server, log), f"{run_id}/0/0"
    await queue.push(asked(run_id, range(2)))
    project, (task, _) = project_of(server, run_id)["id"], tasks_of(server, run_id)
    again = {"data": task["data"], "meta": task["meta"]}
    server.call("POST", f"/api/projects/{project}/import", json=[again, {"data": {"image": "data:,"}}])
    twin, stranger = tasks_of(server, run_id)[2:]
    async with serving(queue, log):
        server.call("POST", f"/api/tasks/{stranger['id']}/annotations/", json={"result": choice("plain")})
        server.call("POST", f"/api/tasks/{task['id']}/annotations/", json={"result": choice("plain")})
        await log.until(lambda: len(log.recorded) == 1)
        server.call("POST", f"/api/tasks/{twin['id']}/annotations/", json={"result": choice(CLASSES[0])})
        await log.until(lambda: len(log.recorded) == 2)
    assert log.words(first) == [("owner@example.com", "plain", 0), ("owner@example.com", CLASSES[0], 1)]
    assert len(log.recorded) == 2


async def test_retracted_requests_are_deleted_unless_answered(
    server: LabelStudioServer, log: FakeLog, tool: LabelStudioTool, run_id: str
) -> None:
    queue = adapter(server, log)
    await queue.push(asked(run_id, range(4)))
    await tool.requests()
    await tool.answer({"request_id": f"{run_id}/0/1", "annotator": "kim", "label": 0})
    await tool.answer({"request_id": f"{run_id}/0/2", "annotator": "kim", "skip": "SKIP_KIND_SKIPPED"})
    gone = [f"{run_id}/0/{i}" for i in range(3)] + [f"{run_id}/0/99", "nobody/0/0"]
    await queue.retract([LabelRetraction(request_id=each) for each in gone])
    left = [task["data"]["labelloop_request_id"] for task in tasks_of(server, run_id)]
    assert left == [f"{run_id}/0/{i}" for i in (1, 2, 3)]


async def test_further_annotators_are_requested_where_two_disagree(
    server: LabelStudioServer, log: FakeLog, tool: LabelStudioTool, run_id: str
) -> None:
    queue, first = adapter(server, log), f"{run_id}/0/0"
    await queue.push(asked(run_id, range(1), annotators=2))
    await tool.requests()
    async with serving(queue, log):
        await tool.answer({"request_id": first, "annotator": "kim", "label": 0})
        await tool.answer({"request_id": first, "annotator": "lee", "label": 1})
        await log.until(lambda: len(log.recorded) == 2)
        assert tasks_of(server, run_id)[0]["is_labeled"]
        await queue.push(asked(run_id, range(1), annotators=3))
        (task,) = tasks_of(server, run_id)
        assert (task["overlap"], task["is_labeled"]) == (3, False)
        assert server.call("GET", f"/api/projects/{project_of(server, run_id)['id']}/next")["id"] == task["id"]
        await tool.answer({"request_id": first, "annotator": "max", "label": 0})
        await log.until(lambda: len(log.recorded) == 3)
    assert {name for name, _, _ in log.words(first)} == {f"{name}@example.com" for name in ("kim", "lee", "max")}


async def test_an_existing_project_is_used_if_it_has_the_classes(
    server: LabelStudioServer, log: FakeLog, run_id: str
) -> None:
    choices = "".join(f'<Choice value="{name}"/>' for name in ("cat &amp; &quot;dog&quot;", "&lt;zebra&gt;", "more"))
    config = f'<View><Image name="pic" value="$photo"/><Choices name="what" toName="pic">{choices}</Choices></View>'
    project = server.call("POST", "/api/projects", json={"title": "somebody's", "label_config": config})["id"]
    queue = adapter(server, log, project=project)
    with pytest.raises(InvalidInput, match=r"lacks 'plain'"):
        await queue.push(asked(run_id, range(2)))
    more = config.replace('"more"', '"plain"')
    server.call("PATCH", f"/api/projects/{project}", json={"label_config": more})
    await queue.push(asked(run_id, range(2), annotators=2, prediction=Prediction(label=2, confidence=0.5)))
    task, _ = server.tasks(project)
    assert (task["overlap"], task["predictions"][0]["result"][0]["from_name"]) == (2, "what")
    said = [{"from_name": "what", "to_name": "pic", "type": "choices", "value": {"choices": ["plain"]}}]
    async with serving(queue, log):
        server.call("POST", f"/api/tasks/{task['id']}/annotations/", json={"result": said})
        await log.until(lambda: bool(log.recorded))
    assert log.words(f"{run_id}/0/0") == [("owner@example.com", "plain", 0)]


@pytest.mark.parametrize("kind", ["legacy", "personal"])
async def test_legacy_and_personal_tokens_are_accepted(
    server: LabelStudioServer, log: FakeLog, run_id: str, kind: str
) -> None:
    token = LEGACY_TOKEN if kind == "legacy" else server.personal_token()
    await adapter(server, log, token=SecretStr(token)).push(asked(run_id, range(1)))
    assert len(tasks_of(server, run_id)) == 1


async def test_the_error_for_an_invalid_token_names_the_setting(
    server: LabelStudioServer, log: FakeLog, run_id: str
) -> None:
    with pytest.raises(NotAllowed, match="LABELLOOP_LABEL_STUDIO_TOKEN"):
        await adapter(server, log, token=SecretStr("wrong")).push(asked(run_id, range(1)))


async def test_results_wait_while_the_event_log_is_unavailable(
    server: LabelStudioServer, log: FakeLog, tool: LabelStudioTool, run_id: str
) -> None:
    queue, log.away = adapter(server, log), True
    await queue.push(asked(run_id, range(2)))
    await tool.requests()
    async with serving(queue, log):
        for i in range(2):
            await tool.answer({"request_id": f"{run_id}/0/{i}", "annotator": "kim", "label": 0})
        await log.until(lambda: log.turned_away > 0)
        log.away = False
        await log.until(lambda: len(log.recorded) == 2)


async def test_the_integration_resumes_after_an_outage_of_label_studio(
    server: LabelStudioServer, log: FakeLog, tool: LabelStudioTool, run_id: str, tmp_path: Path
) -> None:
    queue = adapter(server, log)
    await queue.push(asked(run_id, range(2)))
    await tool.requests()
    async with serving(queue, log):
        await tool.answer({"request_id": f"{run_id}/0/0", "annotator": "kim", "label": 0})
        await log.until(lambda: len(log.recorded) == 1)
        await tool.go_down()
        with pytest.raises(Unready, match="start it"):
            await queue.push(asked(run_id, range(2, 4)))
        await tool.come_back()
        await tool.answer({"request_id": f"{run_id}/0/1", "annotator": "kim", "label": 1})
        await queue.push(asked(run_id, range(4)))
        await log.until(lambda: len(log.recorded) == 2)
    assert len(tasks_of(server, run_id)) == 4
