"""Label Studio's API, as far as the oracle needs it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeVar

import httpx
from labelloop.wire.errors import InvalidInput, LabelloopError, NotAllowed, NotFound, Unready

from oracle_svc.queues.label_studio_config import TITLE_PREFIX, Control, find_control
from oracle_svc.queues.label_studio_results import REQUEST_ID, Task, read_annotation

if TYPE_CHECKING:
    from label_studio_sdk.client import LabelStudio as Sdk

T = TypeVar("T")

SECRET_HEADER = "X-Labelloop-Secret"
_ACTIONS = ("ANNOTATION_CREATED", "ANNOTATIONS_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED")
_TIMEOUT_S = 30.0
_IMPORT_S = 15  # within the lease on what is imported: else another oracle imports it, too
_PAGE = 200
_RETRY_AFTER_S = 5.0
# Label Studio takes the list for nested annotations, too. Not the tasks' data: images are heavy.
_FIELDS = (
    "id,meta,created_at,updated_at,overlap,total_annotations,cancelled_annotations,"
    "annotations,result,was_cancelled,completed_by,lead_time"
)


def check_installed() -> None:
    """InvalidInput where Label Studio's SDK is missing."""
    if find_spec("label_studio_sdk") is None:
        message = "Label Studio's SDK is not installed: pip install labelloop[label-studio]"
        raise InvalidInput("LIBRARY_MISSING", message, field="label_studio_url")


class LabelStudioClient:
    """Every method may raise Unready where Label Studio is away, NotAllowed where it does not take the token, NotFound,
    and InvalidInput where it does not take what was sent."""

    def __init__(self, url: str, token: str) -> None:
        self.url, self._token = url.rstrip("/") + "/", token
        self._sdk: Sdk | None = None
        self._http = httpx.Client(timeout=_TIMEOUT_S, follow_redirects=True)
        self._emails: dict[int, str] = {}

    def close(self) -> None:
        """Leave no connection open."""
        self._http.close()

    async def call(self, work: Callable[[Sdk], T]) -> T:
        """``work`` done in a thread."""
        return await asyncio.to_thread(self._call, work)

    def _call(self, work: Callable[[Sdk], T]) -> T:
        from label_studio_sdk.client import LabelStudio as Sdk  # two seconds, and the oracle may do without
        from label_studio_sdk.core.api_error import ApiError

        try:
            if self._sdk is None:
                options = {"base_url": self.url, "api_key": self._token, "httpx_client": self._http}
                self._sdk = Sdk(**options)  # type: ignore[no-untyped-call]
            return work(self._sdk)
        except ApiError as error:
            raise self._refusal(error.status_code, error.body) from error
        except (httpx.HTTPError, json.JSONDecodeError) as error:
            raise self._away(f"{type(error).__name__} {error}".strip()) from error

    def _away(self, why: str) -> LabelloopError:
        message = f"Label Studio at {self.url} does not answer ({why}): start it, or mend LABELLOOP_LABEL_STUDIO_URL"
        return Unready("LABEL_STUDIO_AWAY", message, retry_after_s=_RETRY_AFTER_S, url=self.url)

    def _refusal(self, status: int | None, body: object) -> LabelloopError:
        detail = json.dumps(body, default=str)[:500]
        if status in (401, 403):
            message = (
                f"Label Studio at {self.url} does not take the token ({detail}): set LABELLOOP_LABEL_STUDIO_TOKEN to a "
                "personal access token of a user who may change projects; legacy tokens its organization must allow"
            )
            return NotAllowed("LABEL_STUDIO_TOKEN", message, url=self.url)
        if status == 404:
            return NotFound("NOT_IN_LABEL_STUDIO", f"Label Studio at {self.url} has no such thing: {detail}")
        if status is None or status >= 500 or status in (408, 429):
            return self._away(f"status {status}")
        message = f"Label Studio at {self.url} does not take this (status {status}): {detail}"
        return InvalidInput("LABEL_STUDIO_REFUSES", message, field="label_studio", status=status)

    async def control(self, project_id: int) -> tuple[Control | None, int]:
        """How people choose in a project, and how many of them are asked for each task."""
        project = await self.call(lambda sdk: sdk.projects.get(project_id))
        return find_control(project.label_config or ""), project.maximum_annotations or 1

    async def projects(self, title: str = TITLE_PREFIX) -> dict[int, str]:
        """Titles of the projects that begin so, by id, oldest first."""
        found: list[Any] = await self.call(
            lambda sdk: list(sdk.projects.list(title=title, include="id,title", page_size=1000))
        )
        return {each.id: each.title or "" for each in sorted(found, key=lambda each: each.id) if _begins(each, title)}

    async def create_project(self, title: str, config: str, annotators: int) -> None:
        await self.call(
            lambda sdk: sdk.projects.create(
                title=title,
                label_config=config,
                maximum_annotations=annotators,
                enable_empty_annotation=False,
                show_skip_button=True,
            )
        )

    async def delete_project(self, project_id: int) -> None:
        await self.call(lambda sdk: sdk.projects.delete(project_id))

    async def ensure_webhook(self, project_id: int, url: str, secret: str) -> None:
        """Have the project call ``url`` with the secret."""

        def ensure(sdk: Sdk) -> None:
            wanted: dict[str, Any] = {
                "url": url,
                "headers": {SECRET_HEADER: secret},
                "is_active": True,
                "send_payload": True,
                "send_for_all_actions": False,
                "actions": list(_ACTIONS),
            }
            for hook in sdk.webhooks.list(project=str(project_id)):
                if hook.url == url:
                    sdk.webhooks.update(hook.id, **wanted)
                    return
            sdk.webhooks.create(project=project_id, **wanted)

        await self.call(ensure)

    async def import_tasks(self, project_id: int, tasks: Sequence[Mapping[str, Any]]) -> None:
        """In their order. Not tried again by itself: Label Studio imports twice happily."""
        options: Any = {"max_retries": 0, "timeout_in_seconds": _IMPORT_S}
        request: Any = list(tasks)  # as JSON: the SDK's own type holds the same
        await self.call(lambda sdk: sdk.projects.import_tasks(project_id, request=request, request_options=options))

    async def delete_task(self, task_id: int) -> None:
        await self.call(lambda sdk: sdk.tasks.delete(str(task_id)))

    async def ask_more(self, task_id: int, annotators: int) -> None:
        """Have so many people asked, more than before: a task that was done is so no longer."""
        await self.call(lambda sdk: sdk.tasks.update(str(task_id), overlap=annotators, is_labeled=False))

    async def tasks(
        self,
        project_id: int,
        control: Control,
        *,
        since: str = "",
        after_id: int = 0,
        ids: Sequence[int] | None = None,
    ) -> list[Task]:
        """Those updated at ``since`` or later, with ids above ``after_id``, and of ``ids`` where given; by id."""
        if ids is not None and not ids:
            return []
        raw = await self.call(lambda sdk: list(_all_tasks(sdk, project_id, since, after_id, ids)))
        await self._meet(
            {each["completed_by"] for task in raw for each in task.annotations or () if each["completed_by"]}
        )
        return [self._task(each, control) for each in raw]

    def _task(self, raw: Any, control: Control) -> Task:
        meta = raw.meta if isinstance(raw.meta, dict) else {}
        annotations = tuple(read_annotation(each, control, self._emails) for each in raw.annotations or ())
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
            found = await self.call(lambda sdk: sdk.users.list())
            self._emails.update((user.id, user.email) for user in found)


def _begins(project: Any, title: str) -> bool:
    return bool((project.title or "").startswith(title))


def _all_tasks(sdk: Sdk, project_id: int, since: str, after_id: int, ids: Sequence[int] | None) -> Iterator[Any]:
    """By pages that begin behind the last one's last task: numbered pages lose tasks when others are deleted."""
    while True:
        query = json.dumps(_query(since, after_id, ids))
        page: Any = sdk.tasks.list(project=project_id, query=query, include=_FIELDS, fields="all", page_size=_PAGE)
        tasks = page.items or []
        if not tasks:
            return
        yield from tasks
        after_id = tasks[-1].id


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
