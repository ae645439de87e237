"""What Label Studio calls: the webhook, and the four calls of its ML backends."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from json import JSONDecodeError
from typing import Any

import structlog
from labelloop.wire.errors import LabelloopError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from oracle_svc.queues.label_studio_client import SECRET_HEADER
from oracle_svc.queues.label_studio_config import Control, find_control
from oracle_svc.queues.label_studio_results import REQUEST_ID

WEBHOOK_PATH, ML_PATH = "/label-studio/webhook", "/label-studio/ml"
_MODEL_VERSION = "labelloop"
_ANSWER_WITHIN_S = 0.8  # Label Studio waits for a second, and somebody at its page waits with it

Handler = Callable[[Any], Awaitable[Response] | Response]

log = structlog.get_logger()


@dataclass(frozen=True)
class Guess:
    """What a model says of a sample: ``confidence`` in [0, 1], ``model`` is its SHA-256."""

    class_name: str
    confidence: float
    model: str


def as_prediction(guess: Guess, control: Control) -> dict[str, Any]:
    """As Label Studio wants it."""
    result = {
        "from_name": control.name,
        "to_name": control.image,
        "type": "choices",
        "value": {"choices": [guess.class_name]},
    }
    return {"model_version": guess.model or _MODEL_VERSION, "score": guess.confidence, "result": [result]}


def knows_secret(headers: Mapping[str, str], secret: str) -> bool:
    """Whether a call brings the secret along: in our header, or as basic authentication's password, any user."""
    given = headers.get(SECRET_HEADER, "")
    scheme, _, encoded = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            given = base64.b64decode(encoded, validate=True).partition(b":")[2].decode()
        except (binascii.Error, UnicodeDecodeError):
            return False
    return hmac.compare_digest(given.encode(), secret.encode())


def task_ids(call: Mapping[str, Any]) -> list[int]:
    """The tasks that a webhook's call names; none where it names annotations that are gone."""
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
    secret: str, look: Callable[[int, Sequence[int]], Awaitable[None]], predictions: Callable[[str], Guess | None]
) -> list[Route]:
    """``look`` brings in what is new in a project's tasks, in all that were touched where none are named."""
    looks: set[asyncio.Task[LabelloopError | None]] = set()  # kept until they end: nobody else does

    async def look_now(project_id: int, tasks: Sequence[int]) -> LabelloopError | None:
        try:
            await look(project_id, tasks)
        except LabelloopError as error:
            log.warning("Label Studio called in vain; polling will find it", reason=error.reason, problem=error.message)
            return error
        return None

    async def webhook(call: Any) -> Response:
        project = call.get("project")
        if not isinstance(project, dict) or not isinstance(project.get("id"), int):
            return _problem(400, "NO_PROJECT", "a webhook of a project says which one it is")
        looking = asyncio.create_task(look_now(project["id"], task_ids(call)))
        looks.add(looking)
        looking.add_done_callback(looks.discard)
        await asyncio.wait({looking}, timeout=_ANSWER_WITHIN_S)
        if not looking.done():
            return _problem(503, "NOT_YET", "it is being looked at, which takes longer than Label Studio waits")
        error = looking.result()
        return _problem(503, error.reason, error.message) if error else JSONResponse({})

    def setup(_: Any) -> Response:
        return JSONResponse({"model_version": _MODEL_VERSION})

    def predict(call: Any) -> Response:
        control = find_control(str(call.get("label_config", "")))
        tasks = call.get("tasks")
        if control is None or not isinstance(tasks, list):
            return _problem(400, "NO_TASKS", "send tasks, and a label_config with choices on an image")
        return JSONResponse({"results": [_predicted(task, control, predictions) for task in tasks]})

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "UP"})

    def trained(_: Any) -> Response:
        return JSONResponse({})  # labelloop trains when it sees fit

    return [
        Route(WEBHOOK_PATH, _guarded(secret, webhook), methods=["POST"]),
        Route(f"{ML_PATH}/health", health, methods=["GET"]),
        Route(f"{ML_PATH}/setup", _guarded(secret, setup), methods=["POST"]),
        Route(f"{ML_PATH}/predict", _guarded(secret, predict), methods=["POST"]),
        Route(f"{ML_PATH}/webhook", _guarded(secret, trained), methods=["POST"]),
    ]


def _predicted(task: Any, control: Control, predictions: Callable[[str], Guess | None]) -> dict[str, Any] | list[Any]:
    """One prediction, as its page wants it while somebody labels, or an empty list."""
    data = task.get("data") if isinstance(task, dict) else None
    guess = predictions(str(data.get(REQUEST_ID, ""))) if isinstance(data, dict) else None
    return as_prediction(guess, control) if guess and guess.class_name in control.classes else []


def _guarded(secret: str, handle: Handler) -> Callable[[Request], Awaitable[Response]]:
    async def guarded(request: Request) -> Response:
        if not knows_secret(request.headers, secret):
            message = f"bring the secret along, as {SECRET_HEADER} or as the password of basic authentication"
            return _problem(401, "NO_SECRET", message)
        try:
            call = await request.json()
        except (JSONDecodeError, UnicodeDecodeError):
            call = None
        if not isinstance(call, dict):
            return _problem(400, "MALFORMED", "this is no JSON object")
        answer = handle(call)
        return answer if isinstance(answer, Response) else await answer

    return guarded


def _problem(status: int, reason: str, message: str) -> JSONResponse:
    return JSONResponse({"reason": reason, "message": message}, status_code=status)
