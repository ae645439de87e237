"""Requests POSTed to a URL, results POSTed back: for a tool of one's own. Both ways as Standard Webhooks has it.

The oracle sends ``{"type": "labels.requested", "timestamp": ..., "data": {"requests": [...]}}``, at most 100 at once,
and ``{"type": "labels.retracted", ..., "data": {"request_ids": [...]}}``. The id of a message follows from its data: it
is the same where the same is sent again, so a receiver that knows ids takes it once. After an oracle died,
requests may come again in another batch: tell them by their ``request_id``. What is asked again, for it was never
answered, or withdrawn, or answered in a way that cannot be taken, has another ``attempt`` or ``next_revision`` too.

The tool sends ``{"type": "label.submitted", "data": {"results": [...]}}`` to ``POST /queue/results``. It is answered
``200 {"verdicts": [...]}``, one for each result, once all of them are durable: "recorded", "repeated" or "refused". On
503, 5xx or no answer it sends the same again, under the same id and signed anew. 401 wants another signature, 413 fewer
results, 409 an id of its own, 400 another body.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar

import structlog
from google.protobuf.json_format import MessageToDict
from labelloop.oracle.v1.oracle_pb2 import LabelRequest
from labelloop.wire.errors import InvalidInput, LabelloopError, LimitExceeded, NotAllowed, Unready, WrongState
from pydantic import Field, HttpUrl, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from oracle_svc.queues.queue import Intake
from oracle_svc.queues.webhook_posting import Sender
from oracle_svc.queues.webhook_signatures import ID, SeenMessages, Signatures, check_secret, content_digest

REQUESTED, RETRACTED, SUBMITTED = "labels.requested", "labels.retracted", "label.submitted"
RESULTS_PATH = "/queue/results"
BODY_BYTES_MAX = 1024 * 1024
RESULTS_MAX = 1000
_TOGETHER = 100  # requests in a message
_TAKE_WITHIN_S = 20.0  # senders give up at about this
_STATUS: dict[type[LabelloopError], int] = {InvalidInput: 400, NotAllowed: 401, WrongState: 409, LimitExceeded: 413}

log = structlog.get_logger()


class WebhookSettings(BaseSettings):
    """``LABELLOOP_WEBHOOK_<NAME>`` in the environment."""

    model_config = SettingsConfigDict(
        env_prefix="LABELLOOP_WEBHOOK_", env_ignore_empty=True, frozen=True, hide_input_in_errors=True
    )

    url: HttpUrl | None = Field(None, description="where requests are POSTed")
    secret: SecretStr = Field(
        SecretStr(""),
        validate_default=True,
        description="whsec_ and base64, for both ways; several, separated by spaces: the first signs, any is accepted",
    )
    timeout_s: float = Field(10.0, gt=0, le=10, description="seconds that the receiver has for an answer")

    @field_validator("secret")
    @classmethod
    def _check_secret(cls, secret: SecretStr, info: ValidationInfo) -> SecretStr:
        secrets = secret.get_secret_value().split()
        if info.data.get("url") and not secrets:
            raise ValueError("set it: whsec_ and 24 to 64 random bytes in base64")
        for each in secrets:
            check_secret(each)
        return secret


def from_environment() -> Webhook | None:
    settings = WebhookSettings()
    if settings.url is None:
        return None
    return Webhook(str(settings.url), settings.secret.get_secret_value().split(), settings.timeout_s)


class Webhook:
    name: ClassVar[str] = "webhook"
    whole_samples: ClassVar[bool] = False

    def __init__(
        self, url: str, secrets: Sequence[str], timeout_s: float = 10.0, take_within_s: float = _TAKE_WITHIN_S
    ) -> None:
        self._take_within_s = take_within_s
        self._signatures, self._seen = Signatures(secrets), SeenMessages()
        self._sender = Sender(url, self._signatures, timeout_s)
        self._intake: Intake | None = None

    async def push(self, requests: Sequence[LabelRequest]) -> None:
        """Errors as in :class:`Sender`."""
        for i in range(0, len(requests), _TOGETHER):
            part = [MessageToDict(each, preserving_proto_field_name=True) for each in requests[i : i + _TOGETHER]]
            await self._send(REQUESTED, {"requests": part})

    async def retract(self, request_ids: Sequence[str]) -> None:
        """Errors as in :class:`Sender`."""
        for i in range(0, len(request_ids), _TOGETHER):
            await self._send(RETRACTED, {"request_ids": list(request_ids[i : i + _TOGETHER])})

    async def serve(self, intake: Intake) -> None:
        """Results are taken while this runs."""
        self._intake = intake
        try:
            await asyncio.Event().wait()
        finally:
            self._intake = None

    def routes(self) -> list[Route]:
        return [Route(RESULTS_PATH, self._results, methods=["POST"])]

    async def _send(self, kind: str, data: dict[str, Any]) -> None:
        body = json.dumps({"type": kind, "timestamp": datetime.now(tz=UTC).isoformat(), "data": data})
        await self._sender.post(f"msg_{content_digest(kind, data)[:32]}", body)

    async def _results(self, request: Request) -> Response:
        try:
            body = await _body(request)
            self._signatures.check(request.headers, body)
            results = _results_of(body)
            self._seen.note(request.headers[ID], content_digest(SUBMITTED, results))
            return JSONResponse({"verdicts": await self._take(results)})
        except LabelloopError as error:
            log.warning("webhook refused", reason=error.reason, problem=error.message)
            return _refusal(error)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody is there to read it

    async def _take(self, results: Sequence[Any]) -> list[str]:
        """One after the other: they may build on each other. Unready where they cannot be taken just now."""
        if self._intake is None:
            raise Unready("NOT_SERVING", "the oracle is about to start, or to end: send the same again")
        intake = self._intake
        try:
            async with asyncio.timeout(self._take_within_s):
                return [(await intake.take_json(json.dumps(result).encode())).value for result in results]
        except TimeoutError as error:
            raise Unready("TOO_SLOW", "not all of it could be recorded in time: send the same again") from error
        except LabelloopError as error:  # whatever it is: nothing could be done just now
            raise Unready(error.reason, error.message, retry_after_s=error.retry_after_s) from error


def _refusal(error: LabelloopError) -> Response:
    told = {"reason": error.reason, "message": error.message}
    if isinstance(error, Unready):
        after_s = str(max(1, math.ceil(error.retry_after_s)))
        return JSONResponse(told, status_code=503, headers={"Retry-After": after_s})
    return JSONResponse(told, status_code=_STATUS[type(error)])


async def _body(request: Request) -> bytes:
    """LimitExceeded for more than 1 MiB, of which no more than that is kept."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            message = f"the body is larger than {BODY_BYTES_MAX} bytes: send fewer results at once"
            raise LimitExceeded("BODY_TOO_LARGE", message)
    return bytes(body)


def _results_of(body: bytes) -> list[Any]:
    """The results, each as yet whatever it is. InvalidInput where there are none."""
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidInput("MALFORMED", "the body is no JSON", field="body") from error
    if not isinstance(message, dict) or message.get("type") != SUBMITTED:
        raise InvalidInput("UNKNOWN_TYPE", f'send an object whose "type" is "{SUBMITTED}"', field="type")
    data = message.get("data")
    results = data.get("results") if isinstance(data, dict) else None
    if not isinstance(results, list) or not results:
        text = 'set "data" to {"results": [...]}, with a result at least'
        raise InvalidInput("NO_RESULTS", text, field="data.results")
    if len(results) > RESULTS_MAX:
        text = f"these are {len(results)} results: send {RESULTS_MAX} at once at most"
        raise LimitExceeded("TOO_MANY_RESULTS", text)
    return results
