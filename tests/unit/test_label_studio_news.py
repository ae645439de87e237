"""What Label Studio's annotations say that a run's log does not."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from labelloop.errors import WrongState
from labelloop.oracle.v1.oracle_pb2 import LabelResult

from oracle_svc.domain.annotator_names import AnnotatorNames
from oracle_svc.domain.current_answers import RequestResults
from oracle_svc.integrations.label_studio.annotations import Annotation, News, Task, news_of
from oracle_svc.integrations.label_studio.client import LabelStudioClient
from oracle_svc.integrations.label_studio.intake import Intake, are_many
from oracle_svc.integrations.label_studio.labeling_config import Control
from oracle_svc.integrations.label_studio.project import Project
from oracle_svc.integrations.label_studio.rest import LabelStudioHttp
from tests.queues.label_studio_log import FakeLog

BEGIN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def at(second: int) -> str:
    return (BEGIN + timedelta(seconds=second)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def annotation(
    number: int, updated: int, class_name: str = "cat", user: int | None = 1, created: int = 0
) -> Annotation:
    shown = {1: "kim@example.com", 2: "lee@example.com"}.get(user or 0, "")
    return Annotation(number, at(updated), user, shown, class_name, 1.0, BEGIN + timedelta(seconds=created))


def task(*annotations: Annotation, request_id: str = "r/0/7") -> Task:
    return Task(1, request_id, BEGIN - timedelta(days=1), BEGIN, 1, annotations)


def logged(number: int, updated: int, class_name: str = "cat", annotator: str = "kim@example.com") -> LabelResult:
    event_id = f"annotation:{number}:{at(updated)}"
    return LabelResult(annotator=annotator, class_name=class_name, source_event_id=event_id)


def news(tasks: Sequence[Task], *newest: LabelResult, superseded: dict[str, str] | None = None) -> News:
    names = AnnotatorNames()
    for each in newest:
        names.note(each.annotator, each.annotator_id)
    return news_of(tasks, RequestResults(newest, superseded or {}), names)


def said(found: News) -> list[tuple[str, str, int]]:
    return [(each.annotator, each.class_name, each.revision) for each in found.words]


@pytest.mark.parametrize("user", [1, 2, 99, None])
def test_who_gave_an_annotation_is_what_the_log_says(user: int | None) -> None:
    assert news([task(annotation(5, 10, user=user))], logged(5, 10)) == News()
    assert said(news([task(annotation(5, 20, "dog", user=user))], logged(5, 10))) == [("kim@example.com", "dog", 1)]


def test_an_annotation_created_later_with_a_used_id_is_another_one() -> None:
    found = news([task(annotation(5, 20, "dog", user=2, created=15))], logged(5, 10))
    assert said(found) == [("lee@example.com", "dog", 0)]
    assert [each.annotator for each in found.withdrawals] == ["kim@example.com"]


def test_an_earlier_annotation_of_a_deleted_account_is_known_by_what_it_said_before() -> None:
    tasks = [task(annotation(5, 10, user=None), annotation(6, 20, "dog", user=None))]
    superseded = {f"annotation:5:{at(10)}": "kim@example.com"}
    assert news(tasks, logged(6, 20, "dog"), superseded=superseded) == News()


def test_an_annotation_that_the_log_has_as_another_class_is_no_correction() -> None:
    """A dead letter was replayed with the class that a renamed one means."""
    assert news([task(annotation(5, 10, "kitty"))], logged(5, 10, "cat")) == News()


def test_a_list_that_is_older_than_the_log_says_nothing() -> None:
    assert news([task(annotation(5, 10, "dog"))], logged(5, 20)) == News()


def test_an_annotation_that_the_log_takes_for_deleted_is_looked_up() -> None:
    deleted = LabelResult(annotator="kim@example.com", withdrawn=True, source_event_id="annotation:5:deleted")
    found = news([task(annotation(5, 10))], deleted)
    assert ([each.revision for each in found.returned], found.words) == ([1], [])


@pytest.mark.parametrize(
    ("withdrawals", "standing", "many"),
    [(5, 5, False), (6, 6, True), (6, 100, False), (10, 100, False), (11, 100, True)],
)
def test_many_are_more_than_a_few_and_than_a_share(withdrawals: int, standing: int, many: bool) -> None:
    assert are_many(withdrawals, standing) is many


class ArchivedRun(FakeLog):
    """The records of an oracle whose run ``gone`` is archived."""

    def results(self, request_id: str) -> RequestResults:
        if request_id.startswith("gone/"):
            raise WrongState("RUN_ARCHIVED", "it lies in an archive")
        return super().results(request_id)


async def test_tasks_of_an_archived_run_do_not_hold_up_the_results_of_others() -> None:
    log = ArchivedRun(["cat", "dog"])
    client = LabelStudioClient(LabelStudioHttp("http://studio.example", "legacy"))
    groups = [[task(annotation(4, 5), request_id="gone/0/7")], [task(annotation(5, 10))]]
    project = Project(client, 7, Control("label", "image", "image", ("cat", "dog")), 1)
    await Intake(client, log).bring(project, groups, log, whole=True)
    await client.aclose()
    assert [each.request_id for each in log.recorded] == ["r/0/7"]


@pytest.mark.parametrize(("status", "withdrawn"), [(404, 1), (200, 0)])
async def test_a_result_is_withdrawn_only_if_its_annotation_is_not_found_either(status: int, withdrawn: int) -> None:
    def annotations(request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/api/annotations/5/"
        return httpx.Response(status, json={})

    log = FakeLog(["cat", "dog"])
    http = LabelStudioHttp("http://studio.example", "legacy", transport=httpx.MockTransport(annotations))
    client = LabelStudioClient(http)
    project = Project(client, 7, Control("label", "image", "image", ("cat", "dog")), 1)
    intake = Intake(client, log)
    await intake.bring(project, [[task(annotation(5, 10))]], log, whole=True)
    await intake.bring(project, [[task()]], log, whole=False)
    assert len(log.recorded) == 1, "a look at some tasks withdraws nothing"
    await intake.bring(project, [[task()]], log, whole=True)
    await client.aclose()
    assert sum(each.withdrawn for each in log.recorded) == withdrawn


async def test_a_list_without_annotations_is_no_list_of_tasks() -> None:
    listed: dict[str, Any] = {"id": 1, "created_at": at(0), "updated_at": at(0), "overlap": 1}
    answer = httpx.MockTransport(lambda _: httpx.Response(200, json={"tasks": [listed]}))
    client = LabelStudioClient(LabelStudioHttp("http://studio.example", "legacy", transport=answer))
    with pytest.raises(Exception, match="annotations"):
        await client.tasks(7, Control("label", "image", "image", ()))
    await client.aclose()
