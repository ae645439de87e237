"""Call Label Studio's REST API: handle tokens, retries, limits on time and size, and errors."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
from labelloop.errors import InvalidInput, LabelloopError, LimitExceeded, NotAllowed, NotFound, Unready
from labelloop.runtime.backoff import Backoff
from pydantic import BaseModel, TypeAdapter, ValidationError
from tenacity import AsyncRetrying, RetryCallState, retry_if_result, stop_before_delay

from oracle_svc.integrations.webhook.sender import retry_after_s

T = TypeVar("T")

_TIMEOUT_S = 30.0
_TRY_WITHIN_S = 8.0
_RETRY_AFTER_S = 5.0
_ERROR_BYTES_MAX, _SAID_CHARACTERS = 20_000, 300
_BACKOFF = Backoff(0.5, 4.0, jitter_s=0.2)

Params = Mapping[str, str | int]


@dataclass(frozen=True)
class Answer:
    status: int
    headers: httpx.Headers
    body: bytes


class _Access(BaseModel):
    access: str


_ACCESS = TypeAdapter(_Access)


class LabelStudioHttp:
    """HTTP client of Label Studio's REST API.

    Every call may raise Unready if Label Studio is away, NotAllowed if it does not accept the token, NotFound,
    LimitExceeded if the answer is too large, and InvalidInput if it does not accept what was sent.

    ``token`` is a legacy token, which is sent as it is, or a personal access token, which is exchanged for access
    tokens that last for minutes. Each try of a call ends within its ``timeout_s``. Calls other than POST are retried,
    for eight seconds, if Label Studio reports that it is busy or broken; a POST might be carried out twice.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        bytes_max: int = 64 * 1024 * 1024,
    ) -> None:
        self.url, self._token, self._bytes_max = url.rstrip("/") + "/", token, bytes_max
        self._is_personal = token.count(".") == 2  # a JSON Web Token; legacy ones are hexadecimal digits
        self._access = ""
        # Redirects are not followed: a POST would become a GET on the way.
        self._http = httpx.AsyncClient(timeout=None, transport=transport)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def get(self, kind: TypeAdapter[T], path: str, params: Params | None = None) -> T:
        """Return the answer as ``kind`` describes it. Raises Unready if it is not, such as the page of a proxy."""
        return await self._read(kind, await self.send("GET", path, params=params))

    async def send(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        params: Params | None = None,
        timeout_s: float = _TIMEOUT_S,
    ) -> bytes:
        """Return the body of the answer; ``body`` is sent as JSON."""
        content = None if body is None else await asyncio.to_thread(lambda: json.dumps(body).encode())

        async def once() -> Answer:
            return await self._once(timeout_s, method, path, content, params)

        repeat = retry_if_result(lambda answer: method != "POST" and _is_passing(answer.status))
        stop = stop_before_delay(_TRY_WITHIN_S)
        tries = AsyncRetrying(retry=repeat, stop=stop, wait=_wait_s, retry_error_callback=_last_answer)
        answer: Answer = await tries(once)
        if not 200 <= answer.status < 300:
            raise self._refusal(answer)
        return answer.body

    async def _once(self, timeout_s: float, *call: Any) -> Answer:
        try:
            async with asyncio.timeout(timeout_s):
                return await self._with_token(*call)
        except TimeoutError as error:
            raise self._away(f"no whole answer within {timeout_s:g} s") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._away(f"{type(error).__name__} {error}".strip()) from error

    async def _with_token(self, *call: Any) -> Answer:
        if not self._is_personal:
            return await self._exchange(f"Token {self._token}", *call)
        known = self._access
        if known:
            answer = await self._exchange(f"Bearer {known}", *call)
            if answer.status != 401:
                return answer
        if self._access == known:  # no other call has fetched one meanwhile
            await self._buy_access()
        return await self._exchange(f"Bearer {self._access}", *call)

    async def _buy_access(self) -> None:
        body = json.dumps({"refresh": self._token}).encode()
        answer = await self._exchange("", "POST", "api/token/refresh/", body, None)
        if answer.status != 200:
            raise self._refusal(answer)
        self._access = (await self._read(_ACCESS, answer.body)).access

    async def _exchange(
        self, authorization: str, method: str, path: str, content: bytes | None, params: Params | None
    ) -> Answer:
        headers = {"authorization": authorization} if authorization else {}
        if content is not None:
            headers["content-type"] = "application/json"
        stream = self._http.stream(method, self.url + path, params=params, content=content, headers=headers)
        async with stream as response:
            parts, length = [], 0
            async for part in response.aiter_bytes():
                parts.append(part)
                length += len(part)
                if length > self._bytes_max:
                    message = (
                        f"Label Studio at {self.url} answers {method} {path} with more than {self._bytes_max} bytes"
                    )
                    raise LimitExceeded("LABEL_STUDIO_ANSWER_TOO_LARGE", message, path=path)
        return Answer(response.status_code, response.headers, b"".join(parts))

    async def _read(self, kind: TypeAdapter[T], body: bytes) -> T:
        try:
            return await asyncio.to_thread(kind.validate_json, body)
        except ValidationError as error:
            fault = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, fault["loc"]))
            raise self._away(f"what answers is no Label Studio: {where} {fault['msg']}") from error

    def _away(self, why: str, asked_s: float = 0.0) -> LabelloopError:
        message = f"Label Studio at {self.url} does not answer ({why}): start it, or mend LABELLOOP_LABEL_STUDIO_URL"
        return Unready("LABEL_STUDIO_AWAY", message, retry_after_s=max(_RETRY_AFTER_S, asked_s), url=self.url)

    def _refusal(self, answer: Answer) -> LabelloopError:
        status, detail = answer.status, words_of(answer.body)
        if status in (401, 403):
            message = (
                f"Label Studio at {self.url} does not take the token ({detail}): set LABELLOOP_LABEL_STUDIO_TOKEN to a "
                "personal access token of a user who may change projects; legacy tokens its organization must allow"
            )
            return NotAllowed("LABEL_STUDIO_TOKEN", message, url=self.url)
        if status == 404:
            return NotFound("NOT_IN_LABEL_STUDIO", f"Label Studio at {self.url} does not have it: {detail}")
        if _is_passing(status):
            return self._away(f"status {status}", _asked_s(answer))
        if 300 <= status < 400:
            location = answer.headers.get("location", "")
            detail = (
                f"it redirects to {location!r}: set LABELLOOP_LABEL_STUDIO_URL to where Label Studio itself answers"
            )
        message = f"Label Studio at {self.url} does not take this (status {status}): {detail}"
        return InvalidInput("LABEL_STUDIO_REFUSES", message, field="label_studio", status=status)


def words_of(body: bytes) -> str:
    """Return what Label Studio says in the body of an error, without the form in which it says it."""
    try:
        said = json.loads(body[:_ERROR_BYTES_MAX])
    except (ValueError, RecursionError):
        return "without saying why" if body.lstrip().startswith((b"<", b"{")) else _plain(body.decode(errors="replace"))
    if not isinstance(said, dict):
        return _plain(str(said))
    faults = said.get("validation_errors")
    if isinstance(faults, dict):
        told = [" ".join(map(str, why)) if isinstance(why, list) else str(why) for why in faults.values()]
        return _plain("; ".join(told))
    return _plain(str(said.get("detail") or "without saying why"))


def _plain(text: str) -> str:
    """Return a text in one line, without characters that cannot be seen, cut to 300 characters."""
    line = "".join(each if each.isprintable() else " " for each in text[: 2 * _SAID_CHARACTERS])
    return " ".join(line.split())[:_SAID_CHARACTERS] or "without saying why"


def _is_passing(status: int) -> bool:
    """Return whether the same call may soon be answered differently."""
    return status >= 500 or status in (408, 429)


def _asked_s(answer: Answer) -> float:
    return retry_after_s(answer.headers.get("retry-after", ""))


def _wait_s(state: RetryCallState) -> float:
    return max(_BACKOFF(state), _asked_s(_last_answer(state)))


def _last_answer(state: RetryCallState) -> Answer:
    assert state.outcome is not None, "it is asked for behind a try"
    answer: Answer = state.outcome.result()
    return answer
