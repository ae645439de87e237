"""Call the parts of Label Studio's API that the oracle needs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from labelloop.errors import NotFound
from pydantic import BaseModel, TypeAdapter

from oracle_svc.integrations.label_studio.annotations import REQUEST_ID, Task, read_annotation
from oracle_svc.integrations.label_studio.labeling_config import TITLE_PREFIX, Control, find_control
from oracle_svc.integrations.label_studio.rest import LabelStudioHttp

SECRET_HEADER = "X-Labelloop-Secret"
_ACTIONS = ("ANNOTATION_CREATED", "ANNOTATIONS_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED")
_IMPORT_S = 15.0  # within the requests' lease, or another replica would import them too
_PROJECTS_PAGE, _PAGE = 1000, 200
# Label Studio applies the list to nested annotations too. It leaves out the tasks' data: images are large.
_FIELDS = (
    "id,meta,created_at,updated_at,overlap,total_annotations,cancelled_annotations,"
    "annotations,result,was_cancelled,completed_by,lead_time"
)


class _Project(BaseModel):
    id: int
    title: str | None = None
    label_config: str | None = None
    maximum_annotations: int | None = None


class _Projects(BaseModel):
    results: list[_Project]
    next: str | None = None


class _Task(BaseModel):
    id: int
    meta: Any = None
    created_at: datetime
    updated_at: datetime
    overlap: int
    annotations: list[dict[str, Any]]  # a list without it is incomplete, and says nothing of what is gone


class _Tasks(BaseModel):
    tasks: list[_Task]


class _Webhook(BaseModel):
    id: int
    url: str


class _User(BaseModel):
    id: int
    email: str


_PROJECT, _PROJECT_PAGE, _TASK_PAGE = TypeAdapter(_Project), TypeAdapter(_Projects), TypeAdapter(_Tasks)
_WEBHOOKS, _USERS = TypeAdapter(list[_Webhook]), TypeAdapter(list[_User])


class LabelStudioClient:
    """Client of Label Studio's API. Every method may raise the errors of :class:`LabelStudioHttp`."""

    def __init__(self, http: LabelStudioHttp) -> None:
        self._http = http
        self._emails: dict[int, str] = {}

    async def aclose(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def control(self, project_id: int) -> tuple[Control | None, int]:
        """Return a project's choice control, if it has one, and how many annotators it asks for each task."""
        project = await self._http.get(_PROJECT, f"api/projects/{project_id}/")
        return find_control(project.label_config or ""), project.maximum_annotations or 1

    async def projects(self, title: str = TITLE_PREFIX) -> dict[int, str]:
        """Return the projects whose titles begin with ``title``: titles by id, oldest first."""
        found: dict[int, str] = {}
        page, more = 0, True
        while more:
            page += 1
            params: dict[str, str | int] = {"title": title, "include": "id,title", "page_size": _PROJECTS_PAGE}
            answer = await self._http.get(_PROJECT_PAGE, "api/projects/", {**params, "page": page})
            found.update(
                (each.id, each.title) for each in answer.results if each.title and each.title.startswith(title)
            )
            more = answer.next is not None
        return dict(sorted(found.items()))

    async def create_project(self, title: str, config: str, annotators: int, instruction: str = "") -> None:
        """Create a project; ``instruction`` is the HTML that annotators are shown before they begin."""
        project: dict[str, Any] = {
            "title": title,
            "label_config": config,
            "maximum_annotations": annotators,
            "enable_empty_annotation": False,
            "show_skip_button": True,
        }
        if instruction:
            project |= {"expert_instruction": instruction, "show_instruction": True}
        await self._http.send("POST", "api/projects/", project)

    async def ensure_webhook(self, project_id: int, url: str, secret: str) -> None:
        """Register or update the project's webhook, so that it calls ``url`` with the secret."""
        wanted: dict[str, Any] = {
            "url": url,
            "headers": {SECRET_HEADER: secret},
            "is_active": True,
            "send_payload": True,
            "send_for_all_actions": False,
            "actions": list(_ACTIONS),
        }
        hooks = await self._http.get(_WEBHOOKS, "api/webhooks/", {"project": project_id})
        ours = next((hook.id for hook in hooks if hook.url == url), None)
        if ours is None:
            await self._http.send("POST", "api/webhooks/", {"project": project_id, **wanted})
        else:
            await self._http.send("PATCH", f"api/webhooks/{ours}/", wanted)

    async def import_tasks(self, project_id: int, tasks: Sequence[Mapping[str, Any]]) -> None:
        """Import tasks in order. Not retried automatically: Label Studio would import them twice."""
        await self._http.send("POST", f"api/projects/{project_id}/import", list(tasks), timeout_s=_IMPORT_S)

    async def delete_task(self, task_id: int) -> None:
        """Delete a task; one that is gone already is no fault."""
        with suppress(NotFound):
            await self._http.send("DELETE", f"api/tasks/{task_id}/")

    async def has_annotation(self, annotation_id: int) -> bool:
        """Return whether an annotation exists, whatever lists of tasks show."""
        try:
            await self._http.send("GET", f"api/annotations/{annotation_id}/")
        except NotFound:
            return False
        return True

    async def ask_more(self, task_id: int, annotators: int) -> None:
        """Raise the number of annotators asked for a task, which reopens one that was done."""
        await self._http.send("PATCH", f"api/tasks/{task_id}/", {"overlap": annotators, "is_labeled": False})

    async def tasks(
        self,
        project_id: int,
        control: Control,
        *,
        since: str = "",
        after_id: int = 0,
        ids: Sequence[int] | None = None,
    ) -> list[Task]:
        """Return the tasks updated at ``since`` or later, above ``after_id``, and in ``ids`` if given; by id."""
        parts = [None] if ids is None else [ids[i : i + _PAGE] for i in range(0, len(ids), _PAGE)]
        raw = [task for part in parts for task in await self._all_tasks(project_id, since, after_id, part)]
        await self._meet(
            {each["completed_by"] for task in raw for each in task.annotations if each.get("completed_by")}
        )
        return [self._task(each, control) for each in sorted(raw, key=lambda task: task.id)]

    async def _all_tasks(self, project_id: int, since: str, after_id: int, ids: Sequence[int] | None) -> list[_Task]:
        """Read tasks in pages that begin after the last task read: numbered pages lose some when others are deleted."""
        found: list[_Task] = []
        params: dict[str, str | int] = {"project": project_id, "include": _FIELDS, "fields": "all", "page_size": _PAGE}
        while True:
            query = json.dumps(_query(since, after_id, ids))
            tasks = (await self._http.get(_TASK_PAGE, "api/tasks/", {**params, "query": query})).tasks
            if not tasks:
                return found
            found += tasks
            after_id = tasks[-1].id

    def _task(self, raw: _Task, control: Control) -> Task:
        meta = raw.meta if isinstance(raw.meta, dict) else {}
        annotations = tuple(read_annotation(each, control, self._emails) for each in raw.annotations)
        return Task(
            id=raw.id,
            request_id=str(meta.get(REQUEST_ID, "")),
            created_at=raw.created_at,
            updated_at=raw.updated_at,
            overlap=raw.overlap,
            annotations=annotations,
        )

    async def _meet(self, users: set[int]) -> None:
        if users - set(self._emails):
            found = await self._http.get(_USERS, "api/users/")
            self._emails.update((user.id, user.email) for user in found)


def _query(since: str, after_id: int, ids: Sequence[int] | None) -> dict[str, Any]:
    items: list[dict[str, Any]] = [
        {"filter": "filter:tasks:id", "operator": "greater", "type": "Number", "value": after_id}
    ]
    if since:
        updated = {"filter": "filter:tasks:updated_at", "operator": "greater_or_equal", "type": "Datetime"}
        items.append({**updated, "value": since})
    query: dict[str, Any] = {"filters": {"conjunction": "and", "items": items}, "ordering": ["tasks:id"]}
    if ids is not None:
        query["selectedItems"] = {"all": False, "included": list(ids)}
    return query
