"""Bring the results of tasks into the log: new ones, changes, and withdrawals of what is really gone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress

import structlog
from labelloop.errors import WrongState
from labelloop.oracle.v1.oracle_pb2 import LabelResult

from oracle_svc.domain.annotator_names import AnnotatorNames
from oracle_svc.domain.current_answers import RequestResults
from oracle_svc.integrations.base import RecordStatus, ResultSink
from oracle_svc.integrations.label_studio.annotations import (
    Annotation,
    News,
    Task,
    annotation_of,
    id_of,
    joined,
    news_of,
)
from oracle_svc.integrations.label_studio.client import LabelStudioClient
from oracle_svc.integrations.label_studio.project import Project
from oracle_svc.integrations.label_studio.run_records import RunRecords

WITHDRAWN_AT_ONCE = 5
"""So many withdrawals of a run in one look are recorded without asking anybody."""
WITHDRAWN_SHARE = 0.1
"""So are more, up to this share of the tool's results that stand in the run."""

log = structlog.get_logger()


def are_many(withdrawals: int, standing: int) -> bool:
    """Return whether a person has to accept so many withdrawals of a run in one look."""
    return withdrawals > max(WITHDRAWN_AT_ONCE, WITHDRAWN_SHARE * standing)


class Intake:
    """Brings in what tasks hold, from one client of Label Studio."""

    def __init__(self, client: LabelStudioClient, records: RunRecords) -> None:
        self._client, self._records = client, records
        self._learned: dict[str, dict[str, str]] = defaultdict(dict)  # names by account, of results without its id
        self._fruitless: dict[str, set[tuple[str, int]]] = {}  # delivered but not recorded: refused, or after another's

    async def bring(
        self, project: Project, groups: Sequence[Sequence[Task]], result_sink: ResultSink, *, whole: bool
    ) -> None:
        """Bring in the tasks of some requests.

        Args:
            groups: All tasks of each request.
            whole: Whether this is a look at everything that changed: others withdraw nothing.
        """
        news = self._news(groups)
        if whole:
            await self._withdraw(project, news, result_sink)
        for found in news.values():
            for word in found.returned:  # the list may be older than the log
                if await self._client.has_annotation(annotation_of(word)):
                    await self._take(word, result_sink)
            for word in found.words:
                await self._take(word, result_sink)

    def _news(self, groups: Sequence[Sequence[Task]]) -> dict[str, News]:
        known: dict[str, tuple[Sequence[Task], RequestResults]] = {}
        for tasks in groups:
            with suppress(WrongState):  # the run is archived or deleted: its results are what they are
                known[tasks[0].request_id] = tasks, self._records.results(tasks[0].request_id)
        runs = {_run_of(request_id) for request_id in known}
        names = {run_id: self._records.names(run_id) for run_id in runs}
        for request_id, (tasks, results) in known.items():
            run_id = _run_of(request_id)
            for annotation, giver in joined(tasks, results):
                if _teaches(annotation, giver, names[run_id]):
                    self._learned[run_id][id_of(annotation)] = giver
        names = {run_id: _with(self._learned[run_id], names[run_id]) for run_id in runs}
        return {
            request_id: news_of(tasks, results, names[_run_of(request_id)])
            for request_id, (tasks, results) in known.items()
        }

    async def _withdraw(self, project: Project, news: Mapping[str, News], result_sink: ResultSink) -> None:
        """Record withdrawals run by run, or hold them if they are many at once."""
        by_run: dict[str, list[LabelResult]] = {_run_of(request_id): [] for request_id in (*project.held, *news)}
        for request_id, found in news.items():
            by_run[_run_of(request_id)] += found.withdrawals
        held: set[str] = set()
        for run_id, withdrawals in by_run.items():
            if withdrawals and are_many(len(withdrawals), self._records.standing_count(run_id)):
                self._records.hold(run_id, withdrawals)
                held |= {each.request_id for each in withdrawals}
                continue
            self._records.hold(run_id, ())
            for withdrawal in withdrawals:
                if not await self._client.has_annotation(annotation_of(withdrawal)):
                    await self._take(withdrawal, result_sink)
        if held - project.held:
            log.warning("label_studio_withdrawals_held", project=project.id, count=len(held))
        project.held = held

    async def _take(self, word: LabelResult, result_sink: ResultSink) -> None:
        key = word.source_event_id, word.revision
        if key in self._fruitless.get(word.request_id, ()):
            return
        if await result_sink.take(word) is RecordStatus.RECORDED:
            self._fruitless.pop(word.request_id, None)  # what was refused or too late before may be taken now
        else:
            self._fruitless.setdefault(word.request_id, set()).add(key)


def _run_of(request_id: str) -> str:
    return request_id.partition("/")[0]


def _teaches(annotation: Annotation, giver: str, names: AnnotatorNames) -> bool:
    """Return whether an annotation shows whose account a name without an id is.

    Not if the account's address is a name of its own in the log: then somebody handed the annotation over.
    """
    unknown = annotation.user is not None and id_of(annotation) not in names.by_id
    return unknown and not names.ids.get(giver) and (annotation.shown == giver or annotation.shown not in names.ids)


def _with(learned: Mapping[str, str], names: AnnotatorNames) -> AnnotatorNames:
    """Return names with those learned from annotations, where the log has no ids."""
    both = AnnotatorNames(dict(names.by_id), dict(names.ids))
    for annotator_id, annotator in learned.items():
        both.note(annotator, annotator_id)
    return both
