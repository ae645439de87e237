"""A fake of Label Studio's API as far as the oracle uses it, in a test's event loop; tests can slow it down."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from oracle_svc.integrations.label_studio.labeling_config import config_of
from tests.queues.http_server import served

_AT = "2026-01-02T03:04:05.000000Z"
PROJECT = 7


class FakeLabelStudio:
    """One project with ``classes``; ``gone`` is the status of refusals, 0 while it is there. A call for tasks sets
    ``asked``, and its response waits for ``free``. ``imported`` holds the ids of requests that were imported by the
    API. As with SQLite, the id of the last task is used again once that task is deleted."""

    def __init__(self, classes: Sequence[str]) -> None:
        self._config, self.gone = config_of(classes), 0
        self._ids = count(1)
        self._tasks: list[dict[str, Any]] = []
        self.imported: list[str] = []
        self.asked, self.free = asyncio.Event(), asyncio.Event()
        self.free.set()

    def label(self, request_id: str, class_name: str) -> int:
        """Add a task with one annotation, and return the task's id."""
        value = {"choices": [class_name]}
        said = {"from_name": "label", "to_name": "image", "type": "choices", "value": value}
        annotation = {
            "id": next(self._ids),
            "updated_at": _AT,
            "completed_by": 1,
            "was_cancelled": False,
            "result": [said],
        }
        return self._add({"labelloop_request_id": request_id}, [annotation])

    def _add(self, meta: dict[str, str], annotations: Sequence[dict[str, Any]]) -> int:
        number: int = max([0, *(task["id"] for task in self._tasks)]) + 1
        task = {"id": number, "meta": meta, "created_at": _AT, "updated_at": _AT, "overlap": 1}
        self._tasks.append({**task, "annotations": annotations})
        return number

    @property
    def routes(self) -> list[Route]:
        return [
            Route("/api/projects/{id:int}", self._project),
            Route("/api/projects/{id:int}/", self._project),
            Route("/api/projects/{id:int}/import", self._import, methods=["POST"]),
            Route("/api/tasks", self._some_tasks),
            Route("/api/tasks/", self._some_tasks),
            Route("/api/tasks/{id:int}/", self._delete, methods=["DELETE"]),
            Route("/api/users", self._users),
            Route("/api/users/", self._users),
        ]

    async def _project(self, _: Request) -> Response:
        if self.gone:
            return Response(status_code=self.gone)
        return JSONResponse({"id": PROJECT, "label_config": self._config, "maximum_annotations": 1})

    async def _import(self, request: Request) -> Response:
        for task in await request.json():
            self._add(task["meta"], [])
            self.imported.append(task["meta"]["labelloop_request_id"])
        return JSONResponse({"task_count": len(self.imported)}, status_code=201)

    async def _delete(self, request: Request) -> Response:
        self._tasks = [task for task in self._tasks if task["id"] != request.path_params["id"]]
        return Response(status_code=204)

    async def _users(self, _: Request) -> Response:
        return JSONResponse([{"id": 1, "email": "kim@example.com"}])

    async def _some_tasks(self, request: Request) -> Response:
        self.asked.set()
        await self.free.wait()
        if self.gone:
            return Response(status_code=self.gone)
        query = json.loads(request.query_params["query"])
        after_id = query["filters"]["items"][0]["value"]
        wanted = query.get("selectedItems", {"included": [task["id"] for task in self._tasks]})["included"]
        tasks = [task for task in self._tasks if task["id"] > after_id and task["id"] in wanted]
        return JSONResponse({"tasks": tasks, "total": len(tasks), "total_annotations": 0, "total_predictions": 0})


@asynccontextmanager
async def fake_label_studio(classes: Sequence[str]) -> AsyncIterator[tuple[FakeLabelStudio, str]]:
    """Serve the fake, and yield it with its URL."""
    studio = FakeLabelStudio(classes)
    async with served(Starlette(routes=studio.routes)) as port:
        try:
            yield studio, f"http://127.0.0.1:{port}"
        finally:
            studio.free.set()
