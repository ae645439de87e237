"""A fake of Label Studio's API as far as the oracle uses it, in a test's event loop; tests can slow it down.

Like Label Studio 1.23.2 it keeps the annotations of an account that is deleted, without saying who gave them, or with
an id that is not in the list of users.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from oracle_svc.integrations.label_studio.labeling_config import config_of
from tests.queues.http_server import served

_BEGIN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PROJECT = 7


class FakeLabelStudio:
    """One project with ``classes``, and those that are made by the API. A call for tasks sets ``asked``, and its
    response waits for ``free``. ``imported`` holds the ids of requests that were imported by the API. As with SQLite,
    the id of the last task is used again once that task is deleted.

    ``emails`` are the accounts that are listed, ``configs`` and ``titles`` the projects'. ``gone`` is the status of
    refusals, 0 while it is there. Tests may change them.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self.configs = {PROJECT: config_of(classes)}
        self.titles = {PROJECT: "somebody's"}
        self.emails = {1: "kim@example.com", 2: "lee@example.com"}
        self.gone = 0
        self._ids, self._seconds = count(1), count()
        self._tasks: list[dict[str, Any]] = []
        self.imported: list[str] = []
        self.asked, self.free = asyncio.Event(), asyncio.Event()
        self.free.set()

    def label(self, request_id: str, class_name: str, user: int = 1) -> int:
        """Add a task with one annotation, and return the task's id."""
        task = self._add(PROJECT, {"labelloop_request_id": request_id})
        self.annotate(request_id, class_name, user)
        return int(task["id"])

    def annotate(self, request_id: str, class_name: str, user: int = 1) -> int:
        """Add an annotation to the request's task, and return its id."""
        at = self._now()
        number = next(self._ids)
        annotation = {"id": number, "created_at": at, "updated_at": at, "completed_by": user}
        task = self._task(request_id)
        task["annotations"].append({**annotation, "was_cancelled": False, "result": _chosen(class_name)})
        task["updated_at"] = at
        return number

    def edit(self, annotation_id: int, class_name: str) -> None:
        task, annotation = self._annotation(annotation_id)
        annotation["result"] = _chosen(class_name)
        annotation["updated_at"] = task["updated_at"] = self._now()

    def delete_annotation(self, annotation_id: int) -> None:
        task, annotation = self._annotation(annotation_id)
        task["annotations"].remove(annotation)
        task["updated_at"] = self._now()

    def delete_account(self, user: int, *, soft: bool = False) -> None:
        """Delete an account; if ``soft`` its annotations keep its id, which the list of users does not have."""
        del self.emails[user]
        for task in self._tasks:
            for annotation in task["annotations"]:
                if annotation["completed_by"] == user and not soft:
                    annotation["completed_by"] = None
            task["updated_at"] = self._now()  # so that the next look reads it

    def delete_task(self, request_id: str) -> None:
        self._tasks.remove(self._task(request_id))

    def delete_project(self, project_id: int) -> None:
        del self.configs[project_id], self.titles[project_id]
        self._tasks = [task for task in self._tasks if task["project"] != project_id]

    def requests(self) -> list[str]:
        """The requests that there are tasks of."""
        return [task["meta"]["labelloop_request_id"] for task in self._tasks]

    def _now(self) -> str:
        return (_BEGIN + timedelta(seconds=next(self._seconds))).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def _task(self, request_id: str) -> dict[str, Any]:
        return next(task for task in self._tasks if task["meta"].get("labelloop_request_id") == request_id)

    def _annotation(self, annotation_id: int) -> tuple[dict[str, Any], dict[str, Any]]:
        return next((task, each) for task in self._tasks for each in task["annotations"] if each["id"] == annotation_id)

    def _add(self, project: int, meta: dict[str, str]) -> dict[str, Any]:
        number: int = max([0, *(task["id"] for task in self._tasks)]) + 1
        task: dict[str, Any] = {"id": number, "meta": meta, "project": project, "overlap": 1, "annotations": []}
        task["created_at"] = task["updated_at"] = self._now()
        self._tasks.append(task)
        return task

    @property
    def routes(self) -> list[Route]:
        return [
            Route("/api/projects/", self._projects),
            Route("/api/projects/", self._create, methods=["POST"]),
            Route("/api/projects/{id:int}/", self._project),
            Route("/api/projects/{id:int}/import", self._import, methods=["POST"]),
            Route("/api/tasks/", self._some_tasks),
            Route("/api/tasks/{id:int}/", self._delete, methods=["DELETE"]),
            Route("/api/annotations/{id:int}/", self._one_annotation),
            Route("/api/users/", self._users),
        ]

    async def _projects(self, _: Request) -> Response:
        found = [{"id": number, "title": title} for number, title in self.titles.items()]
        return JSONResponse({"results": found, "next": None})

    async def _create(self, request: Request) -> Response:
        sent, number = await request.json(), max([PROJECT, *self.titles]) + 1
        self.titles[number], self.configs[number] = sent["title"], sent["label_config"]
        return JSONResponse({"id": number}, status_code=201)

    async def _project(self, request: Request) -> Response:
        if self.gone:
            return Response(status_code=self.gone)
        number = request.path_params["id"]
        if number not in self.configs:
            return _missing("Project")
        return JSONResponse({"id": number, "label_config": self.configs[number], "maximum_annotations": 1})

    async def _import(self, request: Request) -> Response:
        if request.path_params["id"] not in self.configs:
            return _missing("Project")
        for task in await request.json():
            self._add(request.path_params["id"], task["meta"])
            self.imported.append(task["meta"]["labelloop_request_id"])
        return JSONResponse({"task_count": len(self.imported)}, status_code=201)

    async def _delete(self, request: Request) -> Response:
        left = [task for task in self._tasks if task["id"] != request.path_params["id"]]
        if len(left) == len(self._tasks):
            return _missing("Task")
        self._tasks = left
        return Response(status_code=204)

    async def _one_annotation(self, request: Request) -> Response:
        try:
            return JSONResponse(self._annotation(request.path_params["id"])[1])
        except StopIteration:
            return _missing("Annotation")

    async def _users(self, _: Request) -> Response:
        return JSONResponse([{"id": number, "email": email} for number, email in self.emails.items()])

    async def _some_tasks(self, request: Request) -> Response:
        self.asked.set()
        await self.free.wait()
        if self.gone:
            return Response(status_code=self.gone)
        project = int(request.query_params["project"])
        if project not in self.configs:
            return _missing("Project")
        query = json.loads(request.query_params["query"])
        filters = {each["filter"]: each["value"] for each in query["filters"]["items"]}
        since = filters.get("filter:tasks:updated_at", "")
        wanted = query.get("selectedItems", {"included": [task["id"] for task in self._tasks]})["included"]
        tasks = [
            task
            for task in self._tasks
            if task["project"] == project
            and task["id"] > filters["filter:tasks:id"]
            and task["id"] in wanted
            and task["updated_at"] >= since
        ]
        return JSONResponse({"tasks": tasks, "total": len(tasks), "total_annotations": 0, "total_predictions": 0})


def _chosen(class_name: str) -> list[dict[str, Any]]:
    return [{"from_name": "label", "to_name": "image", "type": "choices", "value": {"choices": [class_name]}}]


def _missing(kind: str) -> Response:
    said = {"status_code": 404, "version": "1.23.2", "detail": f"No {kind} matches the given query.", "exc_info": None}
    return JSONResponse(said, status_code=404)


@asynccontextmanager
async def fake_label_studio(classes: Sequence[str]) -> AsyncIterator[tuple[FakeLabelStudio, str]]:
    """Serve the fake, and yield it with its URL."""
    studio = FakeLabelStudio(classes)
    async with served(Starlette(routes=studio.routes)) as port:
        try:
            yield studio, f"http://127.0.0.1:{port}"
        finally:
            studio.free.set()
