"""Exchange requests and results with a custom annotation tool by POST, in both directions as Standard Webhooks.

The oracle sends ``{"type": "labels.requested", "timestamp": ..., "data": {"requests": [...]}}``, at most 100 at once,
and ``{"type": "labels.retracted", ..., "data": {"retractions": [...], "request_ids": [...]}}``. The id of a message is
derived from its data, which name each request with its ``attempt`` and ``next_revision``: a message that is sent again
has the same id, so a receiver that remembers ids takes it once, and another message has another. After an oracle died,
requests may come again in another batch: recognise them by their ``request_id``. A request that is asked again, because
it was never answered, or its result was withdrawn or refused, has another ``attempt`` or ``next_revision`` too.

The tool sends ``{"type": "label.submitted", "data": {"results": [...]}}`` to ``POST /queue/results``. The answer is
``200 {"verdicts": [...], "results": [...]}``, one of each for each result, once all of them are durable: "recorded",
"repeated" or "refused", and a LabelVerdict with the reason. On 503, 5xx or no answer the tool sends the same again,
under the same id with a new signature. 401 asks for another signature, 413 for fewer results, 409 for an id not used
before, 400 for another body.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar

import structlog
from labelloop.errors import InvalidInput, LabelloopError, LimitExceeded, Unready, WrongState
from labelloop.http.error_status import refuse_tool
from labelloop.http.request_body import read_body
from labelloop.oracle.v1.oracle_pb2 import LabelRequest, LabelRetraction, LabelVerdict, Verdict
from pydantic import Field, HttpUrl, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from oracle_svc.integrations.base import ResultSink
from oracle_svc.integrations.messages import document, request_document
from oracle_svc.integrations.webhook.sender import Sender
from oracle_svc.integrations.webhook.signatures import ID, SeenMessages, Signatures, check_secret, content_digest

REQUESTED, RETRACTED, SUBMITTED = "labels.requested", "labels.retracted", "label.submitted"
RESULTS_PATH = "/queue/results"
BODY_BYTES_MAX = 1024 * 1024
RESULTS_MAX = 1000
REQUESTS_MAX = 100  # per message
TAKE_NO_RETRACTION = ("400", "404", "405", "410", "422")  # what receivers answer that know requests alone
_TAKE_WITHIN_S = 20.0  # senders time out after about this

log = structlog.get_logger()


class WebhookSettings(BaseSettings):
    """Settings from ``LABELLOOP_WEBHOOK_<NAME>`` environment variables."""

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
    """Webhook integration: POSTs requests to a URL and takes the results that are POSTed back."""

    name: ClassVar[str] = "webhook"
    whole_samples: ClassVar[bool] = False

    def __init__(
        self, url: str, secrets: Sequence[str], timeout_s: float = 10.0, take_within_s: float = _TAKE_WITHIN_S
    ) -> None:
        self._take_within_s = take_within_s
        self._signatures, self._seen = Signatures(secrets), SeenMessages()
        self._sender = Sender(url, self._signatures, timeout_s)
        self._result_sink: ResultSink | None = None

    async def push(self, requests: Sequence[LabelRequest]) -> None:
        """Send requests, with the errors of :meth:`Sender.post`."""
        for i in range(0, len(requests), REQUESTS_MAX):
            part = [request_document(each) for each in requests[i : i + REQUESTS_MAX]]
            await self._send(REQUESTED, {"requests": part})

    async def retract(self, retractions: Sequence[LabelRetraction]) -> None:
        """Announce retracted requests, with the errors of :meth:`Sender.post`.

        A receiver that takes no such message holds nothing up: the oracle refuses late results.
        """
        for i in range(0, len(retractions), REQUESTS_MAX):
            part = retractions[i : i + REQUESTS_MAX]
            data = {"retractions": [*map(document, part)], "request_ids": [each.request_id for each in part]}
            try:
                await self._send(RETRACTED, data)
            except WrongState as error:
                if error.values.get("status") not in TAKE_NO_RETRACTION:
                    raise
                log.warning("retraction_refused_by_tool", tool=self.name, reason=error.reason, problem=error.message)

    async def serve(self, result_sink: ResultSink) -> None:
        """Take results while this runs."""
        self._result_sink = result_sink
        result_sink.note_reading()
        try:
            await asyncio.Event().wait()
        finally:
            self._result_sink = None

    async def aclose(self) -> None:
        """Do nothing: each message has a connection of its own."""

    def routes(self) -> list[Route]:
        return [Route(RESULTS_PATH, self._results, methods=["POST"])]

    async def _send(self, kind: str, data: dict[str, Any]) -> None:
        body = json.dumps({"type": kind, "timestamp": datetime.now(tz=UTC).isoformat(), "data": data})
        await self._sender.post(f"msg_{content_digest(kind, data)[:32]}", body)

    async def _results(self, request: Request) -> Response:
        try:
            body = await read_body(request, BODY_BYTES_MAX, "send fewer results at once")
            self._signatures.check(request.headers, body)
            results = _results_of(body)
            self._seen.note(request.headers[ID], content_digest(SUBMITTED, results))
            verdicts = await self._take(results)
            words = [Verdict.Name(each.verdict).removeprefix("VERDICT_").lower() for each in verdicts]
            return JSONResponse({"verdicts": words, "results": [*map(document, verdicts)]})
        except LabelloopError as error:
            log.warning("webhook_refused", reason=error.reason, problem=error.message)
            return refuse_tool(error)

    async def _take(self, results: Sequence[Any]) -> list[LabelVerdict]:
        """Take results one after the other, as they may depend on each other. Raises Unready if it cannot now."""
        if self._result_sink is None:
            raise Unready("NOT_SERVING", "the oracle is about to start, or to end: send the same again")
        result_sink = self._result_sink
        try:
            async with asyncio.timeout(self._take_within_s):
                return [await result_sink.take_json(json.dumps(result).encode()) for result in results]
        except TimeoutError as error:
            raise Unready("TOO_SLOW", "not all of it could be recorded in time: send the same again") from error
        except LabelloopError as error:  # whatever the error: nothing could be done now
            raise Unready(error.reason, error.message, retry_after_s=error.retry_after_s) from error


def _results_of(body: bytes) -> list[Any]:
    """Return the results, not yet validated. Raises InvalidInput for none, LimitExceeded for too many."""
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
