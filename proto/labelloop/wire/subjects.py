"""Names on the broker: the stream, and the one subject that each event stands under."""

from __future__ import annotations

import re

from labelloop.events.v1.events_pb2 import Event
from labelloop.wire.errors import InvalidInput

STREAM = "LABELLOOP"
PREFIX = "labelloop.v1"
EVERYTHING = f"{PREFIX}.>"
EVERY_MODEL = f"{PREFIX}.*.*.model_trained"
ARTIFACT_BUCKET = "labelloop-artifacts"
_RUN_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def check_run_id(run_id: str) -> str:
    """``run_id``, if it can stand in a subject; else InvalidInput."""
    if not _RUN_ID.fullmatch(run_id):
        message = f"run id {run_id!r} is not 1 to 64 letters, digits, '-' or '_'"
        raise InvalidInput("BAD_RUN_ID", message, field="run_id", run_id=run_id)
    return run_id


def event_kind(event: Event) -> str:
    """The name of the payload, for example ``model_trained``."""
    kind = event.WhichOneof("payload")
    if kind is None:
        raise ValueError("an event without a payload has no subject")
    return kind


def subject_of(event: Event) -> str:
    """``labelloop.v1.<run>.<round>.<kind>``, for labels ``...label.<sample>.<revision>``, and for requests in place of
    skipped samples ``...labels_requested.<part>``. A skip stands where the first label would: one of them, not both."""
    place = f"{PREFIX}.{event.run_id}.{event.round}"
    kind = event_kind(event)
    if kind == "label_provided":
        return f"{place}.label.{event.label_provided.sample_id}.{event.label_provided.revision}"
    if kind == "sample_skipped":
        return f"{place}.label.{event.sample_skipped.sample_id}.0"
    part = event.labels_requested.part
    return f"{place}.{kind}.{part}" if part else f"{place}.{kind}"
