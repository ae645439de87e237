"""Convert Label Studio's annotations to annotation results. Pure functions.

Label Studio neither counts the edits of an annotation nor keeps its earlier content. So revisions come from the run's
event log: an annotator's newest result there and what Label Studio holds now make at most one new result, with the
revision after the log's. No state is kept that a restart or another replica would not know, and no revision is used for
two contents, unless two replicas append in the same moment: one of them finds its revision taken, and the next look
sees that the log differs from Label Studio.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from labelloop.events.v1.events_pb2 import SkipKind
from labelloop.oracle.v1.oracle_pb2 import LabelResult

from oracle_svc.integrations.label_studio.labeling_config import Control

REQUEST_ID, DIGEST = "labelloop_request_id", "labelloop_digest"
_EVENT = re.compile(r"annotation:(\d+):(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|\+00:00))")


@dataclass(frozen=True)
class Annotation:
    """An annotation as Label Studio holds it.

    Attributes:
        updated_at: In Label Studio's own format.
        class_name: None if the task was skipped.
    """

    id: int
    updated_at: str
    annotator: str
    class_name: str | None
    time_spent_s: float

    @property
    def event_id(self) -> str:
        return f"annotation:{self.id}:{self.updated_at}"

    @property
    def updated(self) -> datetime:
        return datetime.fromisoformat(self.updated_at)


@dataclass(frozen=True)
class Task:
    """A task as Label Studio holds it.

    Attributes:
        request_id: Empty if labelloop did not create the task.
        overlap: How many annotators the task waits for.
    """

    id: int
    request_id: str
    created_at: datetime
    updated_at: datetime
    overlap: int
    annotations: Sequence[Annotation] = field(default=())


def read_annotation(raw: Mapping[str, Any], control: Control, emails: Mapping[int, str]) -> Annotation:
    """Read an annotation of Label Studio's API.

    One that is not a choice of a single class gets a class name that no run has.
    """
    choices = [
        str(choice)
        for item in raw.get("result") or ()
        if item.get("from_name") == control.name
        for choice in item.get("value", {}).get("choices", ())
    ]
    user = raw.get("completed_by")
    return Annotation(
        id=raw["id"],
        updated_at=raw["updated_at"],
        annotator="" if user is None else emails.get(user, f"user {user}"),
        class_name=None if raw.get("was_cancelled") else ", ".join(choices),
        time_spent_s=max(0.0, raw.get("lead_time") or 0.0),
    )


def new_words(tasks: Sequence[Task], said: Sequence[LabelResult]) -> list[LabelResult]:
    """Return the new results of one request.

    Args:
        tasks: All tasks of the request.
        said: The newest result of each annotator in the event log, classes by name.
    """
    log = {result.annotator: result for result in said}
    latest: dict[str, Annotation] = {}
    for annotation in sorted((each for task in tasks for each in task.annotations), key=lambda each: each.updated):
        latest[annotation.annotator] = annotation
    words = [_word(annotation, log.get(name)) for name, annotation in latest.items()]
    words += [_withdrawal(tasks, result) for name, result in log.items() if name not in latest]
    found = [word for word in words if word is not None]
    for word in found:
        word.request_id = tasks[0].request_id
    return found


def _word(annotation: Annotation, before: LabelResult | None) -> LabelResult | None:
    word = LabelResult(
        annotator=annotation.annotator, time_spent_s=annotation.time_spent_s, source_event_id=annotation.event_id
    )
    if annotation.class_name is None:
        word.skip = SkipKind.SKIP_KIND_SKIPPED
    else:
        word.class_name = annotation.class_name
    if before is None:
        return word
    if _answer(before) == _answer(word) or _is_older(annotation, before):
        return None
    word.revision = before.revision + 1
    return word


def _is_older(annotation: Annotation, before: LabelResult) -> bool:
    """Return whether the log has a later state of the same annotation: another replica looked after us."""
    if before.source_event_id == _deleted(annotation.id):
        return True
    known = _known(before)
    return known is not None and known[0] == annotation.id and known[1] > annotation.updated


def _withdrawal(tasks: Sequence[Task], before: LabelResult) -> LabelResult | None:
    """Return a withdrawal of a result that came from these tasks and is no longer there.

    A result from elsewhere, or from a task that was deleted, remains valid: people tidy up.
    """
    known = _known(before)
    if known is None or before.withdrawn or min(task.created_at for task in tasks) > known[1]:
        return None
    return LabelResult(
        withdrawn=True,
        annotator=before.annotator,
        revision=before.revision + 1,
        source_event_id=_deleted(known[0]),
    )


def _deleted(annotation_id: int) -> str:
    return f"annotation:{annotation_id}:deleted"


def _known(result: LabelResult) -> tuple[int, datetime] | None:
    """Return the annotation that ``result`` came from and when it was updated; None if none, or a deleted one."""
    found = _EVENT.fullmatch(result.source_event_id)
    return (int(found[1]), datetime.fromisoformat(found[2])) if found else None


def _answer(result: LabelResult) -> tuple[str | None, Any]:
    kind = result.WhichOneof("answer")
    return kind, getattr(result, kind) if kind else None
