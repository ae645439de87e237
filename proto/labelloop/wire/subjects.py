"""Names on the broker: the stream, and the one subject that each event stands under."""

from __future__ import annotations

import re

from labelloop.events.v1.events_pb2 import Event
from labelloop.wire.errors import InvalidInput

STREAM = "LABELLOOP"
PREFIX = "labelloop.v1"
EVERYTHING = f"{PREFIX}.>"
EVERY_MODEL = f"{PREFIX}.*.*.model_trained"
OUTCOMES = frozenset({"label_provided", "sample_skipped", "label_withdrawn"})  # what may hold for a sample
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
    """``labelloop.v1.<run>.<round>.<kind>``; for requests in place of skipped samples ``...labels_requested.<part>``,
    for further parts of auto-labels ``...samples_auto_labelled.<part>``.

    What holds for a sample, be it a label, a skip or a withdrawal, stands under ``...label.<sample>.<revision>``: one
    of them, not two. What one of several annotators said stands under ``...answer.<sample>.<slot>.<revision>``.
    """
    place = f"{PREFIX}.{event.run_id}.{event.round}"
    kind = event_kind(event)
    if kind in OUTCOMES:
        outcome = getattr(event, kind)
        return f"{place}.label.{outcome.sample_id}.{outcome.revision}"
    if kind == "answer_given":
        given = event.answer_given
        return f"{place}.answer.{given.sample_id}.{given.slot}.{given.revision}"
    part = event.labels_requested.part or event.samples_auto_labelled.part
    return f"{place}.{kind}.{part}" if part else f"{place}.{kind}"
