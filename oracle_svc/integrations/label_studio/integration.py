"""Have images and texts labelled in Label Studio, in a project for each run or in one that exists.

Projects are polled every few seconds, and when Label Studio calls our webhook: it does not retry calls, so they only
tell which tasks to read. Annotators' earlier results, and their revisions, are read from the run's event log.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import ClassVar, Self

import structlog
from labelloop.domain.ids import RequestId
from labelloop.errors import InvalidInput, LabelloopError, NotFound, Unready
from labelloop.oracle.v1.oracle_pb2 import LabelRequest, LabelResult, LabelRetraction
from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from starlette.routing import Route

from oracle_svc.domain.guidelines_html import guidelines_html
from oracle_svc.integrations.base import RecordStatus, ResultSink
from oracle_svc.integrations.label_studio.annotations import Task, new_words
from oracle_svc.integrations.label_studio.client import LabelStudioClient
from oracle_svc.integrations.label_studio.endpoints import WEBHOOK_PATH, call_routes
from oracle_svc.integrations.label_studio.labeling_config import check_classes, config_of, title_of
from oracle_svc.integrations.label_studio.predictions import Prediction
from oracle_svc.integrations.label_studio.project import Project, kind_of
from oracle_svc.integrations.label_studio.rest import LabelStudioHttp

Said = Callable[[str], Sequence[LabelResult]]
Predictions = Callable[[str], Prediction | None]
Guidelines = Callable[[str], str]

log = structlog.get_logger()


def no_guidelines(run_id: str) -> str:
    """Return the guidelines of a run where none are known."""
    return ""


class LabelStudioSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="LABELLOOP_LABEL_STUDIO_", frozen=True)

    url: str = Field("", pattern=r"^(https?://.+)?$", description="where Label Studio answers; empty: there is none")
    token: SecretStr = Field(SecretStr(""), description="a personal access token, or a legacy token where they are on")
    project: int | None = Field(None, ge=1, description="the project to put all into; none: one is made for each run")
    webhook_url: str = Field(
        "", pattern=r"^(https?://.+)?$", description="where Label Studio reaches the oracle; empty: it is only polled"
    )
    webhook_secret: SecretStr = Field(SecretStr(""), description="what calls to the oracle must bring along")
    poll_s: float = Field(10.0, gt=0, le=3600, description="seconds between looks")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.url and not self.token.get_secret_value():
            raise ValueError("with a URL, LABELLOOP_LABEL_STUDIO_TOKEN must hold a token of Label Studio")
        if self.webhook_url and len(self.webhook_secret.get_secret_value()) < 16:
            raise ValueError("with a webhook, LABELLOOP_LABEL_STUDIO_WEBHOOK_SECRET must hold 16 characters or more")
        return self


def from_environment(
    said: Said, predictions: Predictions, guidelines: Guidelines = no_guidelines
) -> LabelStudio | None:
    """Return the integration, or None if no URL is set."""
    settings = LabelStudioSettings()
    return LabelStudio(settings, said, predictions, guidelines) if settings.url else None


class LabelStudio:
    """Label Studio integration.

    Args:
        said: Returns, from the event log, each annotator's newest result from Label Studio for a request, classes by
            name.
        predictions: Returns the newest model's prediction for a request's sample.
        guidelines: Returns the guidelines of a run, empty if it has none. Projects that labelloop makes show them.
    """

    name: ClassVar[str] = "label-studio"
    whole_samples: ClassVar[bool] = True

    def __init__(
        self,
        settings: LabelStudioSettings,
        said: Said,
        predictions: Predictions,
        guidelines: Guidelines = no_guidelines,
    ) -> None:
        self._settings, self._said, self._predictions, self._guidelines = settings, said, predictions, guidelines
        self._client = LabelStudioClient(LabelStudioHttp(settings.url, settings.token.get_secret_value()))
        self._projects: dict[int, Project] = {}
        self._of_run: dict[str, int] = {}
        self._opening = asyncio.Lock()
        self._result_sink: ResultSink | None = None
        self._unheard: set[int] = set()
        self._fruitless: set[tuple[str, int]] = set()  # delivered but not recorded: refused, or after another's

    async def push(self, requests: Sequence[LabelRequest]) -> None:
        project = await self._project_for(requests[0])
        try:
            check_classes(project.control, requests[0].classes, project.id)
            await project.put(requests)
        except (InvalidInput, NotFound):  # the project was changed or deleted
            self._forget(project.id)
            raise

    async def retract(self, retractions: Sequence[LabelRetraction]) -> None:
        by_run: dict[str, list[str]] = defaultdict(list)
        for each in retractions:
            by_run[RequestId.parse(each.request_id).run_id].append(each.request_id)
        for run_id, ids in by_run.items():
            project_id = await self._find(run_id)
            if project_id:
                await (await self._open(project_id)).take_out(ids)

    async def serve(self, result_sink: ResultSink) -> None:
        self._result_sink, away = result_sink, ""
        while True:
            try:
                await self._look_everywhere()
                away = ""
                result_sink.note_reading()
            except LabelloopError as error:
                if error.reason != away:
                    log.warning("label_studio_unreachable", reason=error.reason, problem=error.message)
                away = error.reason
                result_sink.note_reading(error.message)
            await asyncio.sleep(self._settings.poll_s)

    async def aclose(self) -> None:
        await self._client.aclose()

    def routes(self) -> list[Route]:
        """Return the routes that Label Studio may call; none without a secret to authenticate it."""
        secret = self._settings.webhook_secret.get_secret_value()
        return call_routes(secret, self._look_at, self._predictions) if secret else []

    async def _project_for(self, request: LabelRequest) -> Project:
        """Return the run's project, creating it if there is none."""
        project_id = await self._find(request.run_id)
        if project_id is None:
            title = title_of(request.run_id)
            config = config_of(request.classes, kind_of(request))
            instruction = guidelines_html(self._guidelines(request.run_id))
            await self._client.create_project(title, config, request.annotator_count or 1, instruction)
            log.info("label_studio_project_created", title=title)
            project_id = await self._find(request.run_id)
            if project_id is None:
                message = (
                    f"the project {title!r} was made in Label Studio, which does not show it: may the user see it?"
                )
                raise Unready("PROJECT_HIDDEN", message, title=title)
        return await self._open(project_id)

    async def _find(self, run_id: str) -> int | None:
        """Return the id of the run's project. If two replicas created one each, the first; the other stays empty."""
        if self._settings.project:
            return self._settings.project
        if run_id not in self._of_run:
            title = title_of(run_id)
            found = [key for key, name in (await self._client.projects(title)).items() if name == title]
            if not found:
                return None
            self._of_run[run_id] = found[0]
        return self._of_run[run_id]

    async def _open(self, project_id: int) -> Project:
        async with self._opening:
            if project_id not in self._projects:
                found, annotators = await self._client.control(project_id)
                control = check_classes(found, (), project_id)
                if self._settings.webhook_url:
                    url = self._settings.webhook_url.rstrip("/") + WEBHOOK_PATH
                    secret = self._settings.webhook_secret.get_secret_value()
                    await self._client.ensure_webhook(project_id, url, secret)
                self._projects[project_id] = Project(self._client, project_id, control, annotators)
            return self._projects[project_id]

    def _forget(self, project_id: int) -> None:
        self._projects.pop(project_id, None)
        self._of_run = {run_id: key for run_id, key in self._of_run.items() if key != project_id}

    async def _look_everywhere(self) -> None:
        """Bring in everything that is new since the last completed look."""
        ids = [self._settings.project] if self._settings.project else list(await self._client.projects())
        for project_id in ids:
            try:
                await self._look_at(project_id, ())
            except (InvalidInput, NotFound) as error:
                if project_id not in self._unheard:
                    log.warning(
                        "label_studio_project_unreachable",
                        reason=error.reason,
                        problem=error.message,
                        project=project_id,
                    )
                self._unheard.add(project_id)
                self._forget(project_id)
                if self._settings.project:  # there is no other
                    raise

    async def _look_at(self, project_id: int, task_ids: Sequence[int]) -> None:
        if self._result_sink is None:
            raise Unready("STARTING", "the oracle does not take results yet: try again", retry_after_s=1.0)
        project = await self._open(project_id)
        async with project.looking:
            news = await (project.some(task_ids) if task_ids else project.news())
            for tasks in news:
                await self._bring(tasks, self._result_sink)
            if not task_ids:
                project.mark_seen(news)

    async def _bring(self, tasks: Sequence[Task], result_sink: ResultSink) -> None:
        try:
            said = self._said(tasks[0].request_id)
        except (InvalidInput, NotFound):  # a task of another broker's run, say: the sink refuses and keeps it
            said = ()
        for word in new_words(tasks, said):
            key = word.source_event_id, word.revision
            if key not in self._fruitless and await result_sink.take(word) is not RecordStatus.RECORDED:
                self._fruitless.add(key)
