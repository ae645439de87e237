"""Track one Label Studio project: which requests it holds, and which tasks have changed."""

from __future__ import annotations

import asyncio
import base64
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from labelloop.errors import InvalidInput
from labelloop.oracle.v1.oracle_pb2 import LabelRequest

from oracle_svc.integrations.label_studio.annotations import DIGEST, REQUEST_ID, Task
from oracle_svc.integrations.label_studio.client import LabelStudioClient
from oracle_svc.integrations.label_studio.labeling_config import IMAGE, TEXT, Control
from oracle_svc.integrations.label_studio.predictions import Prediction, as_prediction

_OVERLAP = timedelta(seconds=30)  # tasks may be stored in another order than their timestamps

log = structlog.get_logger()


def task_of(request: LabelRequest, control: Control) -> dict[str, Any]:
    """Build the task to import for ``request``. Raises InvalidInput if its sample is not what the project shows."""
    shown = _shown(request, control)
    ours = {REQUEST_ID: request.request_id, DIGEST: request.sha256}
    # Twice: people see and export the data; the meta can be read without the images.
    task: dict[str, Any] = {"data": {**_named(request), control.key: shown, **ours}, "meta": ours}
    if request.HasField("prediction"):
        said = request.prediction
        prediction = Prediction(request.classes[said.label], said.confidence, said.model_sha256)
        task["predictions"] = [as_prediction(prediction, control)]
    return task


def _named(request: LabelRequest) -> dict[str, str]:
    """Return the sample's name as people see and export it; nothing where it has none."""
    return {"name": request.sample_name} if request.sample_name else {}


def kind_of(request: LabelRequest) -> str:
    """Return the tag that shows the request's sample. Raises InvalidInput if Label Studio cannot show it."""
    if request.media_type.startswith("image/"):
        return IMAGE
    if request.media_type.startswith("text/plain"):
        return TEXT
    found = f"samples of run {request.run_id!r} are {request.media_type}"
    message = f"{found}: Label Studio is asked about images and texts only"
    raise InvalidInput("NOT_AN_IMAGE", message, field="tool", run_id=request.run_id)


def _shown(request: LabelRequest, control: Control) -> str:
    kind = kind_of(request)
    if kind != control.shows:
        message = f"samples of run {request.run_id!r} need the tag {kind}, but the project shows {control.shows}"
        raise InvalidInput("LABEL_CONFIG", message, field="project", run_id=request.run_id)
    if kind == IMAGE:
        return request.uri or f"data:{request.media_type};base64,{base64.b64encode(request.content).decode()}"
    if not request.content:
        message = f"text {request.sample_id} of run {request.run_id!r} is too large to be put into Label Studio"
        raise InvalidInput("TEXT_TOO_LARGE", message, field="tool", run_id=request.run_id)
    return request.content.decode()


class Project:
    """Imports, deletes and reads the tasks of one project.

    Args:
        control: The choices that annotators have there.
        annotators: How many annotators are asked for each imported task.
    """

    def __init__(self, client: LabelStudioClient, project_id: int, control: Control, annotators: int) -> None:
        self._client, self.id, self.control, self._annotators = client, project_id, control, annotators
        self.looking = asyncio.Lock()  # held until all that was read is brought in: else old results follow new ones
        self._finding = asyncio.Lock()  # looks and pushes find tasks at the same time
        self._tasks: dict[str, set[int]] = defaultdict(set)
        self._last_id = 0
        self._since: datetime | None = None
        self._strangers = False
        self.held: set[str] = set()  # requests with withdrawals that wait for a person: read again at each look

    def refresh(self, control: Control, annotators: int) -> None:
        """Take over the labelling configuration as it is now."""
        self.control, self._annotators = control, annotators

    def _note(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            if task.request_id:
                self._tasks[task.request_id].add(task.id)
            elif not self._strangers:
                self._strangers = True
                log.info("label_studio_foreign_tasks_ignored", project=self.id)

    def _note_all(self, tasks: Sequence[Task]) -> None:
        """Note all tasks after the last one noted here, by id.

        As none is left out, no later look has to begin before them.
        """
        self._note(tasks)
        self._last_id = max([self._last_id, *(task.id for task in tasks)])

    async def _find(self, request_ids: Sequence[str]) -> dict[str, list[Task]]:
        """Return the current tasks of each request."""
        async with self._finding:
            self._note_all(await self._client.tasks(self.id, self.control, after_id=self._last_id))
            ids = [each for request_id in request_ids for each in self._tasks.get(request_id, ())]
            found: dict[str, list[Task]] = defaultdict(list)
            for task in await self._client.tasks(self.id, self.control, ids=ids):
                found[task.request_id].append(task)
            for request_id in request_ids:
                self._tasks[request_id] = {task.id for task in found[request_id]}
            return found

    async def put(self, requests: Sequence[LabelRequest]) -> None:
        """Import the requests that are missing, and have enough annotators asked for each."""
        names = [request.request_id for request in requests]
        there = await self._find(names)
        missing = [task_of(request, self.control) for request in requests if not there[request.request_id]]
        if missing:
            await self._client.import_tasks(self.id, missing)
        if missing and any(request.annotator_count > self._annotators for request in requests):
            there = await self._find(names)
        for request in requests:
            for task in there[request.request_id]:
                if task.overlap < request.annotator_count:
                    await self._client.ask_more(task.id, request.annotator_count)

    async def missing(self, request_ids: Sequence[str]) -> list[str]:
        """Return those of the requests that the project has no task of."""
        there = await self._find(request_ids) if request_ids else {}
        return [request_id for request_id in request_ids if not there[request_id]]

    async def take_out(self, request_ids: Sequence[str]) -> None:
        """Delete the requests' tasks that have no annotations."""
        for tasks in (await self._find(request_ids)).values():
            for task in tasks:
                if not task.annotations:
                    async with self._finding:
                        await self._client.delete_task(task.id)
                        self._last_id = min(self._last_id, task.id - 1)  # with SQLite the next task may reuse this id

    async def news(self) -> list[list[Task]]:
        """Return all tasks of each request with one that changed since :meth:`mark_seen`; at first of every request.

        Also those of requests in ``held``. The caller brings in what is new in them, and then marks it as seen.
        """
        since = "" if self._since is None else (self._since - _OVERLAP).astimezone(UTC).isoformat()
        touched = await self._client.tasks(self.id, self.control, since=since.replace("+00:00", "Z"))
        seen = {task.id for task in touched}
        held = [each for request_id in self.held for each in self._tasks.get(request_id, ()) if each not in seen]
        return await self._by_request([*touched, *await self._client.tasks(self.id, self.control, ids=held)])

    async def some(self, task_ids: Sequence[int]) -> list[list[Task]]:
        """Return all tasks of each request of which ``task_ids`` names one."""
        return await self._by_request(await self._client.tasks(self.id, self.control, ids=task_ids))

    async def _by_request(self, touched: Sequence[Task]) -> list[list[Task]]:
        self._note(touched)
        found: dict[str, dict[int, Task]] = defaultdict(dict)
        for task in touched:
            if task.request_id:
                found[task.request_id][task.id] = task
        twins = [each for request_id, tasks in found.items() for each in self._tasks[request_id] if each not in tasks]
        for task in await self._client.tasks(self.id, self.control, ids=twins):
            found[task.request_id][task.id] = task
        return [list(tasks.values()) for tasks in found.values()]

    def mark_seen(self, tasks: Sequence[Sequence[Task]]) -> None:
        """Note that everything new in the result of :meth:`news` has been brought in."""
        stamps = [task.updated_at for group in tasks for task in group]
        self._since = max(stamps + ([self._since] if self._since else []), default=None)
