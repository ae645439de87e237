"""Serve the endpoints that Label Studio calls: the webhook, and the four of an ML backend."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import structlog
from labelloop.errors import InvalidInput, LabelloopError, NotAllowed, Unready
from labelloop.http.error_status import refuse_tool
from labelloop.http.request_body import json_object, read_body
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from oracle_svc.integrations.label_studio.annotations import REQUEST_ID
from oracle_svc.integrations.label_studio.client import SECRET_HEADER
from oracle_svc.integrations.label_studio.labeling_config import Control, find_control
from oracle_svc.integrations.label_studio.predictions import _MODEL_VERSION, Prediction, as_prediction
from oracle_svc.secret_comparison import same_secret

WEBHOOK_PATH, ML_PATH = "/label-studio/webhook", "/label-studio/ml"
BODY_BYTES_MAX = 64 * 1024 * 1024
"""As much as is read of an answer of Label Studio: both hold tasks, with images inline."""
_ANSWER_WITHIN_S = 0.8  # Label Studio waits for a second, and the annotator at its page with it

Call = Mapping[str, Any]
Handler = Callable[[Call], Awaitable[Response]]

log = structlog.get_logger()


def knows_secret(headers: Mapping[str, str], secret: str) -> bool:
    """Return whether a call has the secret, in our header or as the basic authentication password of any user."""
    given = headers.get(SECRET_HEADER, "")
    scheme, _, encoded = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            given = base64.b64decode(encoded, validate=True).partition(b":")[2].decode()
        except (binascii.Error, UnicodeDecodeError):
            return False
    return same_secret(given, secret)


def task_ids(call: Call) -> list[int]:
    """Return the ids of tasks that a webhook call names; none if it names deleted annotations."""
    annotations, tasks = call.get("annotation"), call.get("task")
    named = (
        [each.get("task") for each in annotations if isinstance(each, dict)] if isinstance(annotations, list) else []
    )
    if isinstance(annotations, dict):
        named.append(annotations.get("task"))
    if isinstance(tasks, dict):
        named.append(tasks.get("id"))
    return sorted({each for each in named if isinstance(each, int)})


def call_routes(
    secret: str, look: Callable[[int, Sequence[int]], Awaitable[None]], predictions: Callable[[str], Prediction | None]
) -> list[Route]:
    """Build the routes that Label Studio calls.

    Args:
        secret: What calls have to carry, except for the health check.
        look: Brings in the new results of a project's tasks; of all that changed if none are named.
        predictions: Returns the prediction for a request id, if there is one.
    """
    looks: set[asyncio.Task[LabelloopError | None]] = set()  # kept until they end: nothing else references them

    async def look_now(project_id: int, tasks: Sequence[int]) -> LabelloopError | None:
        try:
            await look(project_id, tasks)
        except LabelloopError as error:
            log.warning(
                "label_studio_webhook_failed",
                action="polling will find the result",
                reason=error.reason,
                problem=error.message,
            )
            return error
        return None

    async def webhook(call: Call) -> Response:
        project = call.get("project")
        if not isinstance(project, dict) or not isinstance(project.get("id"), int):
            raise InvalidInput("NO_PROJECT", "a webhook of a project says which one it is", field="project")
        looking = asyncio.create_task(look_now(project["id"], task_ids(call)))
        looks.add(looking)
        looking.add_done_callback(looks.discard)
        await asyncio.wait({looking}, timeout=_ANSWER_WITHIN_S)
        if not looking.done():
            raise Unready("NOT_YET", "it is being looked at, which takes longer than Label Studio waits")
        if error := looking.result():
            raise Unready(error.reason, error.message, retry_after_s=error.retry_after_s) from error
        return JSONResponse({})

    async def setup(_: Call) -> Response:
        return JSONResponse({"model_version": _MODEL_VERSION})

    async def predict(call: Call) -> Response:
        control = find_control(str(call.get("label_config", "")))
        tasks = call.get("tasks")
        if control is None or not isinstance(tasks, list):
            raise InvalidInput("NO_TASKS", "send tasks, and a label_config with choices on an image", field="tasks")
        return JSONResponse({"results": [_predicted(task, control, predictions) for task in tasks]})

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "UP"})

    async def trained(_: Call) -> Response:
        return JSONResponse({})  # labelloop decides itself when to train

    return [
        Route(WEBHOOK_PATH, _guarded(secret, webhook), methods=["POST"]),
        Route(f"{ML_PATH}/health", health, methods=["GET"]),
        Route(f"{ML_PATH}/setup", _guarded(secret, setup), methods=["POST"]),
        Route(f"{ML_PATH}/predict", _guarded(secret, predict), methods=["POST"]),
        Route(f"{ML_PATH}/webhook", _guarded(secret, trained), methods=["POST"]),
    ]


def _predicted(
    task: Any, control: Control, predictions: Callable[[str], Prediction | None]
) -> dict[str, Any] | list[Any]:
    """Return one prediction in the format of Label Studio's labelling page, or an empty list."""
    data = task.get("data") if isinstance(task, dict) else None
    prediction = predictions(str(data.get(REQUEST_ID, ""))) if isinstance(data, dict) else None
    return as_prediction(prediction, control) if prediction and prediction.class_name in control.classes else []


def _guarded(secret: str, handle: Handler) -> Callable[[Request], Awaitable[Response]]:
    async def guarded(request: Request) -> Response:
        try:
            return await handle(await _call_of(request, secret))
        except LabelloopError as error:
            return refuse_tool(error)

    return guarded


async def _call_of(request: Request, secret: str) -> Call:
    """Read a call. Raises NotAllowed without the secret, LimitExceeded if it is too large, else InvalidInput."""
    if not knows_secret(request.headers, secret):
        message = f"bring the secret along, as {SECRET_HEADER} or as the password of basic authentication"
        raise NotAllowed("NO_SECRET", message)
    call = json_object(await read_body(request, BODY_BYTES_MAX, "send fewer tasks at once"))
    if call is None:
        raise InvalidInput("MALFORMED", "this is no JSON object", field="body")
    return call
