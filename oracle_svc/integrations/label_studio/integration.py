"""Have images and texts labelled in Label Studio, in a project for each run or in one that exists.

Projects are polled every few seconds, and when Label Studio calls our webhook: it does not retry calls, so they only
tell which tasks to read. Annotators' earlier results, and their revisions, are read from the run's event log.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import ClassVar, Self

import structlog
from labelloop.domain.ids import RequestId
from labelloop.errors import InvalidInput, LabelloopError, LimitExceeded, NotFound, Unready
from labelloop.oracle.v1.oracle_pb2 import LabelRequest, LabelRetraction
from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from starlette.routing import Route

from oracle_svc.domain.guidelines_html import guidelines_html
from oracle_svc.integrations.base import ResultSink
from oracle_svc.integrations.label_studio.client import LabelStudioClient
from oracle_svc.integrations.label_studio.endpoints import WEBHOOK_PATH, call_routes
from oracle_svc.integrations.label_studio.intake import Intake
from oracle_svc.integrations.label_studio.labeling_config import (
    Control,
    check_classes,
    classes_fault,
    config_of,
    title_of,
)
from oracle_svc.integrations.label_studio.predictions import Prediction
from oracle_svc.integrations.label_studio.project import Project, kind_of
from oracle_svc.integrations.label_studio.rest import LabelStudioHttp
from oracle_svc.integrations.label_studio.run_records import RunRecords

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
    records: RunRecords, predictions: Predictions, guidelines: Guidelines = no_guidelines
) -> LabelStudio | None:
    """Return the integration, or None if no URL is set."""
    settings = LabelStudioSettings()
    return LabelStudio(settings, records, predictions, guidelines) if settings.url else None


class LabelStudio:
    """Label Studio integration.

    Args:
        records: What log and leases hold of the tool's runs.
        predictions: Returns the newest model's prediction for a request's sample.
        guidelines: Returns the guidelines of a run, empty if it has none. Projects that labelloop makes show them.
    """

    name: ClassVar[str] = "label-studio"
    whole_samples: ClassVar[bool] = True

    def __init__(
        self,
        settings: LabelStudioSettings,
        records: RunRecords,
        predictions: Predictions,
        guidelines: Guidelines = no_guidelines,
    ) -> None:
        self._settings, self._records, self._predictions, self._guidelines = settings, records, predictions, guidelines
        self._client = LabelStudioClient(LabelStudioHttp(settings.url, settings.token.get_secret_value()))
        self._intake = Intake(self._client, records)
        self._projects: dict[int, Project] = {}
        self._of_run: dict[str, int] = {}
        self._opening = asyncio.Lock()
        self._result_sink: ResultSink | None = None
        self._faults: dict[int, str] = {}  # why a project cannot be read, by its id

    async def push(self, requests: Sequence[LabelRequest]) -> None:
        try:
            await self._put(requests)
        except NotFound:  # the project was deleted, which the error of a second try explains
            self._forget_run(requests[0].run_id)
            await self._put(requests)

    async def _put(self, requests: Sequence[LabelRequest]) -> None:
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
            try:
                project_id = await self._find(run_id)
                if project_id:
                    await (await self._open(project_id)).take_out(ids)
            except NotFound:  # the project was deleted, and the requests with it
                self._forget_run(run_id)

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
            found = _titled(title, await self._client.projects(title))
            if found is None:
                return None
            self._of_run[run_id] = found
        return self._of_run[run_id]

    async def _open(self, project_id: int) -> Project:
        async with self._opening:
            if project_id not in self._projects:
                control, annotators = await self._control(project_id)
                if self._settings.webhook_url:
                    url = self._settings.webhook_url.rstrip("/") + WEBHOOK_PATH
                    secret = self._settings.webhook_secret.get_secret_value()
                    await self._client.ensure_webhook(project_id, url, secret)
                self._projects[project_id] = Project(self._client, project_id, control, annotators)
            return self._projects[project_id]

    async def _control(self, project_id: int) -> tuple[Control, int]:
        """Return the choices that a project has now. Raises NotFound, with what to do, if it was deleted."""
        try:
            found, annotators = await self._client.control(project_id)
        except NotFound as error:
            raise NotFound("PROJECT_GONE", _gone(project_id, fixed=bool(self._settings.project))) from error
        return check_classes(found, (), project_id), annotators

    def _forget(self, project_id: int) -> None:
        self._projects.pop(project_id, None)
        self._of_run = {run_id: key for run_id, key in self._of_run.items() if key != project_id}

    def _forget_run(self, run_id: str) -> None:
        project_id = self._settings.project or self._of_run.get(run_id)
        if project_id:
            self._forget(project_id)

    async def _look_everywhere(self) -> None:
        """Bring in everything that is new since the last completed look, and find what the tool lost."""
        classes = self._records.classes()
        believed = {run_id: self._records.in_tool(run_id) for run_id in classes}  # before the tool is read
        fixed = self._settings.project
        titles = {fixed: ""} if fixed else await self._client.projects()
        faults: dict[int, str] = {}
        failed: LabelloopError | None = None
        for project_id in titles:
            try:
                await self._look_at(project_id, ())
            except (InvalidInput, NotFound, LimitExceeded) as error:
                gone = isinstance(error, NotFound)
                problem = faults[project_id] = _gone(project_id, fixed=bool(fixed)) if gone else error.message
                if self._faults.get(project_id) != problem:
                    log.warning(
                        "label_studio_project_unreachable", reason=error.reason, problem=problem, project=project_id
                    )
                self._forget(project_id)
                failed = error
        self._faults = faults
        for run_id, names in classes.items():
            with suppress(InvalidInput, NotFound, LimitExceeded):  # the project was changed a moment ago
                await self._check_run(run_id, names, believed[run_id], fixed or _titled(title_of(run_id), titles))
        if fixed and failed:  # there is no other project
            raise failed

    async def _check_run(
        self, run_id: str, classes: Sequence[str], believed: Sequence[str], project_id: int | None
    ) -> None:
        """Say what is wrong with a run's project, and have requests pushed again that it does not hold.

        Args:
            believed: The requests that it held before the look, as far as leases say.
            project_id: Its project; None if there is none.
        """
        if project_id is None:
            self._forget_run(run_id)
            self._records.notify(run_id, ())
            await self._ask_again(run_id, believed, why="its project was deleted")
            return
        project = self._projects.get(project_id)
        if project is None:
            self._records.notify(run_id, [self._faults.get(project_id, "")] if project_id in self._faults else ())
            return
        fault = classes_fault(project.control, classes, project_id)
        self._records.notify(run_id, [fault] if fault else ())
        await self._ask_again(run_id, await project.missing(believed), why="their tasks were deleted")

    async def _ask_again(self, run_id: str, request_ids: Sequence[str], why: str) -> None:
        if request_ids:
            log.warning("label_studio_requests_lost", run=run_id, count=len(request_ids), why=why)
            await self._records.ask_again(run_id, request_ids)

    async def _look_at(self, project_id: int, task_ids: Sequence[int]) -> None:
        if self._result_sink is None:
            raise Unready("STARTING", "the oracle does not take results yet: try again", retry_after_s=1.0)
        project = await self._open(project_id)
        async with project.looking:
            if not task_ids:
                project.refresh(*await self._control(project_id))
            news = await (project.some(task_ids) if task_ids else project.news())
            await self._intake.bring(project, news, self._result_sink, whole=not task_ids)
            if not task_ids:
                project.mark_seen(news)


def _titled(title: str, titles: Mapping[int, str]) -> int | None:
    """Return the first project with a title; None if there is none."""
    return next((project_id for project_id, name in titles.items() if name == title), None)


def _gone(project_id: int, *, fixed: bool) -> str:
    """Say that a project was deleted, and what to do."""
    gone = f"Label Studio has no project {project_id}, or the token's user may not see it"
    if not fixed:
        return f"{gone}: another one is made for the run"
    return (
        f"{gone}: let LABELLOOP_LABEL_STUDIO_PROJECT name one that offers all classes, or leave it unset and have a "
        "project made for each run"
    )
