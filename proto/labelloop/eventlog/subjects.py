"""Define the names on the broker: the stream, the artifact bucket, and the one subject of each event."""

from __future__ import annotations

import re
from collections.abc import Iterator

from labelloop.domain.sample_outcomes import OUTCOMES
from labelloop.errors import InvalidInput
from labelloop.events.v1.events_pb2 import Event

STREAM = "LABELLOOP"
PREFIX = "labelloop.v1"
EVERYTHING = f"{PREFIX}.>"
ARTIFACT_BUCKET = "labelloop-artifacts"
_RUN_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def check_run_id(run_id: str) -> str:
    """Return ``run_id`` if it can be part of a subject; raise InvalidInput otherwise."""
    if not _RUN_ID.fullmatch(run_id):
        message = f"run id {run_id!r} is not 1 to 64 letters, digits, '-' or '_'"
        raise InvalidInput("BAD_RUN_ID", message, field="run_id", run_id=run_id)
    return run_id


def event_kind(event: Event) -> str:
    """Return the name of the payload, for example ``model_trained``; raise ValueError if there is none."""
    kind = event.WhichOneof("payload")
    if kind is None:
        raise ValueError("an event without a payload has no subject")
    return kind


def subject_of(event: Event) -> str:
    """Return the subject of ``event``: ``labelloop.v1.<run>.<round>.<kind>``, with these exceptions.

    Requests that replace skipped samples have ``...labels_requested.<part>``, further parts of auto-labels
    ``...samples_auto_labelled.<part>``. The outcome of a sample, be it a label, a skip or a withdrawal, has
    ``...label.<sample>.<revision>``, so that only one of the three can be written. The annotation result of one of
    several annotators has ``...answer.<sample>.<slot>.<revision>``, a change of annotators
    ``...annotators_changed.<number>``. For ``run_archived``, ``run_restored`` and
    ``run_deleted``, the number of the archive takes the place of the round.
    """
    place = f"{PREFIX}.{event.run_id}.{event.round}"
    kind = event_kind(event)
    if kind in OUTCOMES:
        outcome = getattr(event, kind)
        return f"{place}.label.{outcome.sample_id}.{outcome.revision}"
    if kind == "answer_given":
        given = event.answer_given
        return f"{place}.answer.{given.sample_id}.{given.slot}.{given.revision}"
    if kind == "annotators_changed":
        return f"{place}.{kind}.{event.annotators_changed.number}"
    part = event.labels_requested.part or event.samples_auto_labelled.part
    return f"{place}.{kind}.{part}" if part else f"{place}.{kind}"


def run_of(subject: str) -> str:
    """Return the id of the run that an event's ``subject`` names."""
    return subject.removeprefix(f"{PREFIX}.").partition(".")[0]


def archived_subject(run_id: str) -> str:
    """Return the subjects, with a wildcard, of ``run_archived`` of a run."""
    return f"{PREFIX}.{run_id}.*.run_archived"


def ending_subjects(run_id: str) -> tuple[str, ...]:
    """Return the subjects, with a wildcard, of the events after which there is never a run of that id."""
    return f"{PREFIX}.{run_id}.*.run_deleted", f"{PREFIX}.{run_id}.0.import_cleared"


def void_subjects(run_id: str) -> Iterator[str]:
    """Yield the subjects of all events of a run id but those that say that there is no run."""
    kinds = {field.name for field in Event.DESCRIPTOR.oneofs_by_name["payload"].fields}
    for kind in sorted(kinds - {*OUTCOMES, "answer_given", "run_archived", "run_deleted", "import_cleared"}):
        yield f"{PREFIX}.{run_id}.*.{kind}"
        yield f"{PREFIX}.{run_id}.*.{kind}.>"
    yield f"{PREFIX}.{run_id}.*.label.>"
    yield f"{PREFIX}.{run_id}.*.answer.>"
