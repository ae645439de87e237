"""Convert Label Studio's annotations to annotation results. Pure functions.

Label Studio neither counts the edits of an annotation nor keeps its earlier content. So revisions come from the run's
event log: an annotator's newest result there and what Label Studio holds now make at most one new result, with the
revision after the log's. No state is kept that a restart or another replica would not know, and no revision is used for
two contents, unless two replicas append in the same moment: one of them finds its revision taken, and the next look
sees that the log differs from Label Studio.

Who gave an annotation is what the log says of its id. Label Studio is asked only about one that the log does not have:
accounts are deleted and e-mail addresses change while the annotations stay. The id of the account identifies its
annotator, the address is only a name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from labelloop.events.v1.events_pb2 import SkipKind
from labelloop.oracle.v1.oracle_pb2 import LabelResult

from oracle_svc.domain.annotator_names import AnnotatorNames
from oracle_svc.domain.current_answers import RequestResults
from oracle_svc.integrations.label_studio.labeling_config import Control

REQUEST_ID, DIGEST = "labelloop_request_id", "labelloop_digest"
_EVENT = re.compile(r"annotation:(\d+):(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|\+00:00))")


@dataclass(frozen=True)
class Annotation:
    """An annotation as Label Studio holds it.

    Attributes:
        updated_at: In Label Studio's own format.
        user: Id of the account that gave it; None if the account was deleted.
        shown: The account's e-mail address; empty if it cannot be found.
        class_name: None if the task was skipped.
        created: When it was created, to tell it from an earlier one with the same id; None if unknown.
    """

    id: int
    updated_at: str
    user: int | None
    shown: str
    class_name: str | None
    time_spent_s: float
    created: datetime | None = None

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
    user, created = raw.get("completed_by"), raw.get("created_at")
    return Annotation(
        id=raw["id"],
        updated_at=raw["updated_at"],
        user=user,
        shown="" if user is None else emails.get(user, ""),
        class_name=None if raw.get("was_cancelled") else ", ".join(choices),
        time_spent_s=max(0.0, raw.get("lead_time") or 0.0),
        created=datetime.fromisoformat(created) if created else None,
    )


@dataclass(frozen=True)
class News:
    """New results of one request.

    Attributes:
        words: Labels and skips.
        returned: Those among them whose annotation the log takes for deleted.
        withdrawals: Withdrawals of results whose annotations are gone.
    """

    words: list[LabelResult] = field(default_factory=list)
    returned: list[LabelResult] = field(default_factory=list)
    withdrawals: list[LabelResult] = field(default_factory=list)


def news_of(tasks: Sequence[Task], results: RequestResults, names: AnnotatorNames) -> News:
    """Return the new results of one request.

    Args:
        tasks: All tasks of the request.
        results: What the event log holds of it.
        names: The names of the run's annotators.
    """
    log = {result.annotator: result for result in results.newest}
    latest: dict[str, Annotation] = {}
    for annotation in sorted((each for task in tasks for each in task.annotations), key=lambda each: each.updated):
        latest[_giver(annotation, results) or name_of(annotation, names)] = annotation
    words: list[LabelResult] = []
    returned: list[LabelResult] = []
    for name, annotation in latest.items():
        before = log.get(name)
        account = names.ids.get(name, "") if _giver(annotation, results) else id_of(annotation)
        if word := _word(tasks[0].request_id, name, account, annotation, before):
            back = before is not None and before.source_event_id == _deleted(annotation.id)
            (returned if back else words).append(word)
    gone = [_withdrawal(tasks, result) for name, result in log.items() if name not in latest]
    return News(words, returned, [each for each in gone if each])


def name_of(annotation: Annotation, names: AnnotatorNames) -> str:
    """Return the name of the account that gave an annotation; empty if it was deleted."""
    if annotation.user is None:
        return ""
    return names.name_of(id_of(annotation), annotation.shown or f"user {annotation.user}")


def id_of(annotation: Annotation) -> str:
    """Return the id under which the log has the account that gave an annotation; empty if it was deleted."""
    return "" if annotation.user is None else f"label-studio:{annotation.user}"


def joined(tasks: Sequence[Task], results: RequestResults) -> Iterator[tuple[Annotation, str]]:
    """Yield the annotations that the log has, each with the name of who gave it there."""
    for task in tasks:
        for annotation in task.annotations:
            if giver := _giver(annotation, results):
                yield annotation, giver


def annotation_of(result: LabelResult) -> int:
    """Return the id of the annotation that a new result came from."""
    return int(result.source_event_id.split(":")[1])


def _giver(annotation: Annotation, results: RequestResults) -> str:
    """Return who gave an annotation by the log; empty if the log does not have it.

    An annotation that was created after the log's has only the same id: databases use the ids of deleted ones again.
    """
    events = [(each.source_event_id, each.annotator) for each in results.newest]
    for event_id, annotator in (*events, *results.superseded.items()):
        known = _known(event_id)
        if known and known[0] == annotation.id and (annotation.created is None or annotation.created <= known[1]):
            return annotator
    return ""


def _word(
    request_id: str, name: str, account: str, annotation: Annotation, before: LabelResult | None
) -> LabelResult | None:
    word = LabelResult(
        request_id=request_id,
        annotator=name,
        annotator_id=account,
        time_spent_s=annotation.time_spent_s,
        source_event_id=annotation.event_id,
    )
    if annotation.class_name is None:
        word.skip = SkipKind.SKIP_KIND_SKIPPED
    else:
        word.class_name = annotation.class_name
    if before is None:
        return word
    recorded = before.source_event_id == annotation.event_id  # perhaps as another class: it was renamed
    if recorded or _answer(before) == _answer(word) or _is_older(annotation, before):
        return None
    word.revision = before.revision + 1
    return word


def _is_older(annotation: Annotation, before: LabelResult) -> bool:
    """Return whether the log has a later state of the same annotation: another replica looked after us."""
    known = _known(before.source_event_id)
    return known is not None and known[0] == annotation.id and known[1] > annotation.updated


def _withdrawal(tasks: Sequence[Task], before: LabelResult) -> LabelResult | None:
    """Return a withdrawal of a result that came from these tasks and is no longer there.

    A result from elsewhere, or from a task that was deleted, remains valid: people tidy up.
    """
    known = _known(before.source_event_id)
    if known is None or before.withdrawn or min(task.created_at for task in tasks) > known[1]:
        return None
    return LabelResult(
        request_id=tasks[0].request_id,
        withdrawn=True,
        annotator=before.annotator,
        annotator_id=before.annotator_id,
        revision=before.revision + 1,
        source_event_id=_deleted(known[0]),
    )


def _deleted(annotation_id: int) -> str:
    return f"annotation:{annotation_id}:deleted"


def _known(event_id: str) -> tuple[int, datetime] | None:
    """Return the annotation that an event names and when it was updated; None if none, or a deleted one."""
    found = _EVENT.fullmatch(event_id)
    return (int(found[1]), datetime.fromisoformat(found[2])) if found else None


def _answer(result: LabelResult) -> tuple[str | None, Any]:
    kind = result.WhichOneof("answer")
    return kind, getattr(result, kind) if kind else None
