"""Calls to Label Studio: tokens, retries, limits, and errors that say what to do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import httpx
import pytest
from labelloop.errors import InvalidInput, LabelloopError, LimitExceeded, NotAllowed, NotFound, Unready
from pydantic import TypeAdapter

from oracle_svc.integrations.label_studio.rest import LabelStudioHttp, words_of

URL = "http://studio.example/sub"
LEGACY, PERSONAL = "0123456789abcdef", "head.payload.signature"
ANYTHING: TypeAdapter[Any] = TypeAdapter(Any)
NUMBERS = TypeAdapter(list[int])


class Played:
    """Label Studio's responses in turn, the last one repeatedly; ``asked`` keeps the requests."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self._answers = list(answers)
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, content=answer.content, headers=answer.headers)


def reached(
    played: Callable[[httpx.Request], httpx.Response], token: str = LEGACY, **bounds: int
) -> aclosing[LabelStudioHttp]:
    return aclosing(LabelStudioHttp(URL, token, transport=httpx.MockTransport(played), **bounds))


async def test_a_legacy_token_is_sent_unchanged() -> None:
    played = Played(httpx.Response(200, json=[1, 2]))
    async with reached(played) as http:
        assert await http.get(NUMBERS, "api/users/", {"page": 1}) == [1, 2]
    [request] = played.asked
    assert str(request.url) == f"{URL}/api/users/?page=1"
    assert request.headers["authorization"] == f"Token {LEGACY}"


class Tokens:
    """Accepts only the newest access token; ``sold`` is its number."""

    def __init__(self) -> None:
        self.sold, self.carried_out = 0, 0
        self.takes_personal = True

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/api/token/refresh/"):
            if not self.takes_personal or json.loads(request.content) != {"refresh": PERSONAL}:
                return httpx.Response(401, json={"detail": "Token is blacklisted"})
            assert "authorization" not in request.headers
            self.sold += 1
            return httpx.Response(200, json={"access": f"access {self.sold}"})
        if request.headers["authorization"] != f"Bearer access {self.sold}":
            return httpx.Response(401, json={"code": "token_not_valid"})
        self.carried_out += 1
        return httpx.Response(200, json=[])

    def expire(self) -> None:
        self.sold += 1


async def test_a_personal_token_is_exchanged_for_access_tokens_as_they_expire() -> None:
    tokens = Tokens()
    async with reached(tokens, PERSONAL) as http:
        for _ in range(3):
            await http.send("POST", "api/projects/1/import", [])
        assert tokens.sold == 1
        tokens.expire()
        await http.send("POST", "api/projects/1/import", [])
    assert (tokens.sold, tokens.carried_out) == (3, 4)


async def test_a_revoked_personal_token_is_an_error_that_says_what_to_do() -> None:
    tokens = Tokens()
    tokens.takes_personal = False
    async with reached(tokens, PERSONAL) as http:
        with pytest.raises(NotAllowed, match=r"blacklisted.*LABELLOOP_LABEL_STUDIO_TOKEN"):
            await http.get(ANYTHING, "api/users/")


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        (httpx.Response(401, text="no"), NotAllowed, r"\(no\): set LABELLOOP_LABEL_STUDIO_TOKEN"),
        (httpx.Response(403), NotAllowed, "LABELLOOP_LABEL_STUDIO_TOKEN"),
        (httpx.Response(404, text="gone"), NotFound, "gone"),
        (httpx.Response(400, text="bad config"), InvalidInput, r"status 400\): bad config"),
        (httpx.Response(301, headers={"location": "https://studio.example/"}), InvalidInput, "https://studio.example/"),
        (httpx.Response(500), Unready, "status 500.*start it"),
        (httpx.Response(429), Unready, "status 429"),
        (httpx.ConnectError("refused"), Unready, "ConnectError refused.*mend LABELLOOP_LABEL_STUDIO_URL"),
        (httpx.RemoteProtocolError("cut"), Unready, "cut"),
    ],
)
async def test_a_failed_call_is_an_error_that_says_what_to_do(
    answer: httpx.Response | Exception, error: type[LabelloopError], said: str
) -> None:
    async with reached(Played(answer)) as http:
        with pytest.raises(error, match=said):
            await http.send("POST", "api/projects/")


@pytest.mark.parametrize("text", ["<html>sign in</html>", "", '{"a": 1}', "[null]"])
async def test_a_response_of_unexpected_form_is_reported_as_no_label_studio(text: str) -> None:
    async with reached(Played(httpx.Response(200, text=text))) as http:
        with pytest.raises(Unready, match="no Label Studio"):
            await http.get(NUMBERS, "api/users/")


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
async def test_idempotent_calls_are_retried_if_label_studio_is_busy(method: str) -> None:
    played = Played(httpx.Response(503), httpx.Response(200, json=7))
    async with reached(played) as http:
        assert await http.send(method, "api/tasks/1/", {"overlap": 2}) == b"7"
    assert [request.content for request in played.asked] == [b'{"overlap": 2}'] * 2


async def test_a_call_that_is_not_idempotent_is_not_retried() -> None:
    played = Played(httpx.Response(503), httpx.Response(201))
    async with reached(played) as http:
        with pytest.raises(Unready):
            await http.send("POST", "api/projects/1/import", [])
    assert len(played.asked) == 1


async def test_a_call_is_not_retried_before_the_time_in_retry_after() -> None:
    played = Played(httpx.Response(429, headers={"retry-after": "60"}))
    async with reached(played) as http:
        with pytest.raises(Unready) as caught:
            await http.get(ANYTHING, "api/users/")
    assert len(played.asked) == 1
    assert caught.value.retry_after_s == 60


async def test_a_response_that_trickles_in_times_out() -> None:
    async def trickle() -> AsyncIterator[bytes]:
        while True:
            yield b" "
            await asyncio.sleep(0.01)

    async with reached(lambda _: httpx.Response(200, content=trickle())) as http:
        with pytest.raises(Unready, match=r"within 0\.1 s"):
            await http.send("POST", "api/projects/1/import", [], timeout_s=0.1)


@pytest.mark.parametrize("status", [200, 500])
async def test_a_response_that_is_too_large_is_an_error(status: int) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b" " * 1000

    async with reached(lambda _: httpx.Response(status, content=endless()), bytes_max=10_000) as http:
        with pytest.raises(LimitExceeded, match="more than 10000 bytes"):
            await http.get(ANYTHING, "api/tasks/")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"status_code": 404, "detail": "No Project matches.", "exc_info": null}', "No Project matches."),
        (b'{"detail": "Validation error", "validation_errors": {"label_config": ["It is", "empty"]}}', "It is empty"),
        (b'["one", "two"]', "['one', 'two']"),
        (b"gone\n\x1b[31m away", "gone [31m away"),
        (b"<html>a page</html>", "without saying why"),
        (b'{"cut', "without saying why"),
        (b"", "without saying why"),
        (b"[" * 100_000, "["),
        (b'{"detail": "' + b"x" * 1000 + b'"}', "x" * 300),
    ],
)
def test_an_error_is_told_in_label_studios_words(body: bytes, said: str) -> None:
    assert words_of(body)[: len(said)] == said
    assert len(words_of(body)) <= 300
