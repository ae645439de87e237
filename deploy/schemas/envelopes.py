"""Describe the messages of the webhook, in which requests, results and verdicts travel together."""

from __future__ import annotations

from oracle_svc.integrations.base import RecordStatus
from oracle_svc.integrations.webhook.integration import REQUESTED, REQUESTS_MAX, RESULTS_MAX, RETRACTED, SUBMITTED
from schemas.json_schema import DIALECT, Schema
from schemas.messages import REQUEST, RESULT, RETRACTION, VERDICT

REQUESTED_FILE = "webhook-requested.schema.json"
RETRACTED_FILE = "webhook-retracted.schema.json"
SUBMITTED_FILE = "webhook-submitted.schema.json"
ANSWER_FILE = "webhook-answer.schema.json"


def envelopes() -> dict[str, Schema]:
    """Return the schemas of the webhook's messages, by the names of their files."""
    return {
        REQUESTED_FILE: _sent(
            REQUESTED_FILE,
            "Requests to label, most wanted first.",
            REQUESTED,
            {"requests": _list({"$ref": REQUEST.file_name}, REQUESTS_MAX)},
        ),
        RETRACTED_FILE: _sent(
            RETRACTED_FILE,
            "Requests that need no result any more.",
            RETRACTED,
            {
                "retractions": _list({"$ref": RETRACTION.file_name}, REQUESTS_MAX),
                "request_ids": {
                    "description": "The request_id of each, as earlier releases send it.",
                    **_list({"type": "string"}, REQUESTS_MAX),
                },
            },
        ),
        SUBMITTED_FILE: _document(
            SUBMITTED_FILE,
            "Results, taken in their order.",
            {
                "type": {"const": SUBMITTED},
                "data": _object({"results": _list({"$ref": RESULT.file_name}, RESULTS_MAX)}),
            },
        ),
        ANSWER_FILE: _document(
            ANSWER_FILE,
            "What became of each result of a submission, in its order; all of it is durable.",
            {
                "verdicts": {
                    "description": "The verdict of each, as a word.",
                    **_list({"type": "string", "enum": [each.value for each in RecordStatus]}, RESULTS_MAX),
                },
                "results": {
                    "description": "The same with reasons.",
                    **_list({"$ref": VERDICT.file_name}, RESULTS_MAX),
                },
            },
        ),
    }


def _sent(file_name: str, about: str, kind: str, data: dict[str, Schema]) -> Schema:
    timestamp = {"type": "string", "format": "date-time", "description": "When the message was made."}
    return _document(file_name, about, {"type": {"const": kind}, "timestamp": timestamp, "data": _object(data)})


def _document(file_name: str, about: str, properties: dict[str, Schema]) -> Schema:
    return {"$schema": DIALECT, "$id": file_name, "description": about, **_object(properties)}


def _object(properties: dict[str, Schema]) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _list(item: Schema, most: int) -> Schema:
    return {"type": "array", "items": item, "minItems": 1, "maxItems": most}
