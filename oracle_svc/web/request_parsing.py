"""Parse the small JSON objects that the labelling page sends."""

from __future__ import annotations

from typing import Any

from google.protobuf.json_format import ParseDict, ParseError
from labelloop.domain.ids import request_id_prefix
from labelloop.errors import InvalidInput
from labelloop.http.request_body import json_object, read_body
from labelloop.oracle.v1.oracle_pb2 import LabelResult
from starlette.requests import Request

from oracle_svc.result_json import UNREADABLE

BODY_BYTES_MAX = 64 * 1024
RESULTS_MAX = 100


async def object_of(request: Request) -> dict[str, Any]:
    """Read a request's JSON object. Raises InvalidInput if it is none, LimitExceeded if it is too large."""
    value = json_object(await read_body(request, BODY_BYTES_MAX, "send fewer answers at once"))
    if value is None:
        raise InvalidInput("NOT_JSON", "send a JSON object")
    return value


def count_of(body: dict[str, Any], most: int) -> int:
    """Return the whole number ``count``, 1 to ``most``; 1 if it is missing."""
    count = body.get("count", 1)
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= most:
        raise InvalidInput("BAD_COUNT", f"count is a whole number from 1 to {most}", field="count")
    return count


def text_of(body: dict[str, Any], field: str) -> str:
    """Return a text field; empty if it is missing."""
    value = body.get(field, "")
    if not isinstance(value, str):
        raise InvalidInput("NO_TEXT", f"{field} is a text", field=field)
    return value


def request_ids_of(body: dict[str, Any], field: str, run_id: str) -> list[str]:
    """Return the ids in a field, all of requests of this run; none if the field is missing."""
    ids = body.get(field, [])
    if not isinstance(ids, list) or len(ids) > RESULTS_MAX or not all(isinstance(each, str) for each in ids):
        message = f"{field} is a list of at most {RESULTS_MAX} texts"
        raise InvalidInput("BAD_REQUEST_IDS", message, field=field)
    for each in ids:
        _check_run(each, run_id, field)
    return ids


def results_of(body: dict[str, Any], run_id: str, annotator: str) -> list[LabelResult]:
    """Return one annotator's results for requests of this run, whatever annotator they name."""
    given = body.get("results")
    if not isinstance(given, list) or not 1 <= len(given) <= RESULTS_MAX:
        raise InvalidInput("BAD_RESULTS", f"results is a list of 1 to {RESULTS_MAX} answers", field="results")
    return [_result(each, run_id, annotator) for each in given]


def _result(given: object, run_id: str, annotator: str) -> LabelResult:
    if not isinstance(given, dict):
        raise InvalidInput("BAD_RESULT", "an answer is a JSON object: a LabelResult", field="results")
    try:
        result: LabelResult = ParseDict(given, LabelResult())
    except (ParseError, *UNREADABLE) as error:
        raise InvalidInput("BAD_RESULT", f"an answer is no LabelResult: {error}", field="results") from error
    _check_run(result.request_id, run_id, "results")
    result.annotator = annotator
    return result


def _check_run(request_id: str, run_id: str, field: str) -> None:
    if not request_id.startswith(request_id_prefix(run_id)):
        message = f"request {request_id!r} is none of run {run_id!r}"
        raise InvalidInput("OTHER_RUN", message, field=field, request_id=request_id)
