"""The page's HTTP interface: sign-in, validation, errors, headers, event streams."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
from labelloop.errors import Corrupt, InvalidInput, LabelloopError, LimitExceeded, NotAllowed, Unready, WrongState
from labelloop.eventlog.projections import RunProjections
from labelloop.events.v1.events_pb2 import (
    AnnotatorAlias,
    AnnotatorRemoval,
    AnnotatorsChanged,
    Event,
    QueueSpec,
    RunDeleted,
)
from labelloop.oracle.v1.oracle_pb2 import LabelResult, LeaseNextRequest, SubmitResultsRequest
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from oracle_svc.domain.labeling_state import LabelingState
from oracle_svc.web.app import make_app
from oracle_svc.web.ports import Projections
from oracle_svc.web.rate_limit import AGAIN_S, ALL_AT_ONCE, AT_ONCE, RateLimit
from oracle_svc.web.server import WebServer
from oracle_svc.web.session import LIFETIME_S, seal, unseal
from oracle_svc.web.settings import WebSettings, from_environment
from oracle_svc.web.sse import STREAMS_OF_ONE, EventStreams, heartbeat
from tests.bad_names import BAD_NAMES
from tests.patience import PATIENCE_S
from tests.web.conftest import TOKEN, FakeSite, eventually
from tests.web.fake_oracle import FakeOracle, FakeProjections

OWN = {"X-Labelloop": "1", "Content-Type": "application/json"}
RUN = "/api/runs/digits"


@pytest.fixture
async def client(fake_site: FakeSite) -> AsyncIterator[httpx.AsyncClient]:
    """A client signed in as ada."""
    async with httpx.AsyncClient(base_url=fake_site.url, headers=OWN) as client:
        answer = await client.post("/login", json={"token": fake_site.token, "name": "ada"})
        assert answer.status_code == 200, answer.text
        yield client


@pytest.fixture
async def stranger(fake_site: FakeSite) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=fake_site.url, headers=OWN) as client:
        yield client


async def lease(client: httpx.AsyncClient, count: int = 1) -> list[dict[str, Any]]:
    answer = await client.post(f"{RUN}/next", json={"count": count})
    assert answer.status_code == 200, answer.text
    requests: list[dict[str, Any]] = answer.json()["requests"]
    return requests


async def test_label_skip_and_undo(fake_site: FakeSite, client: httpx.AsyncClient) -> None:
    first, second = await lease(client, 2)
    assert base64.b64decode(first["content"]).startswith(b"\x89PNG")
    results = [
        {"request_id": first["request_id"], "label": 7, "time_spent_s": 1.5},
        {"request_id": second["request_id"], "skip": "SKIP_KIND_REJECTED"},
    ]
    answer = await client.post(f"{RUN}/answers", json={"results": results})
    assert answer.json() == {"recorded": 2, "repeated_count": 0, "contradicting_count": 0, "own": True}
    assert await fake_site.labels() == {first["sample_id"]: 7}
    assert await fake_site.skipped() == {second["sample_id"]}
    withdrawn = {"request_id": first["request_id"], "withdrawn": True, "revision": 1}
    await client.post(f"{RUN}/answers", json={"results": [withdrawn]})
    assert await fake_site.labels() == {}


async def test_a_result_has_the_signed_in_annotators_name(fake_site: FakeSite, client: httpx.AsyncClient) -> None:
    (request,) = await lease(client)
    forged = {"request_id": request["request_id"], "label": 1, "annotator": "eve"}
    await client.post(f"{RUN}/answers", json={"results": [forged]})
    last = fake_site.projections.get("digits").progress.last
    assert last is not None
    assert last.annotator == "ada"


async def test_released_requests_are_leased_to_others(fake_site: FakeSite, client: httpx.AsyncClient) -> None:
    held = await lease(client, fake_site.batch_size)
    async with httpx.AsyncClient(base_url=fake_site.url, headers=OWN) as other:
        await other.post("/login", json={"token": TOKEN, "name": "bob"})
        assert await lease(other, 5) == []
        answer = await client.post(f"{RUN}/release", json={"request_ids": [held[0]["request_id"]]})
        assert answer.json() == {"released": 1}
        assert [each["sample_id"] for each in await lease(other, 5)] == [held[0]["sample_id"]]


async def test_an_image_that_the_page_has_is_not_resent(client: httpx.AsyncClient) -> None:
    (first,) = await lease(client)
    answer = await client.post(f"{RUN}/next", json={"count": 2, "have": [first["request_id"]]})
    again, second = answer.json()["requests"]
    assert again == {**first, "content": ""}
    assert second["content"]


@pytest.mark.parametrize("path", [f"{RUN}/next", f"{RUN}/answers", f"{RUN}/release"])
async def test_writing_requires_signing_in(stranger: httpx.AsyncClient, path: str) -> None:
    answer = await stranger.post(path, json={"count": 1})
    assert (answer.status_code, answer.json()["reason"]) == (401, "SIGN_IN")


async def test_reading_requires_signing_in(stranger: httpx.AsyncClient) -> None:
    assert (await stranger.get(f"{RUN}/events")).status_code == 401
    page = await stranger.get("/runs/digits")
    assert (page.status_code, page.headers["location"]) == (303, "/login?next=%2Fruns%2Fdigits")
    assert (await stranger.get("/api/session")).json() == {"name": None, "known": False}


async def test_the_health_check_needs_no_sign_in(stranger: httpx.AsyncClient) -> None:
    assert (await stranger.get("/healthz")).text == "ok\n"


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://elsewhere.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "null"},
        {"Content-Type": "text/plain"},
        {"X-Labelloop": None},
    ],
)
@pytest.mark.parametrize("path", [f"{RUN}/next", "/login", "/logout"])
async def test_cross_site_writes_are_refused(
    client: httpx.AsyncClient, fake_site: FakeSite, headers: dict[str, str | None], path: str
) -> None:
    sent = {key: value for key, value in {**OWN, **headers}.items() if value is not None}
    async with httpx.AsyncClient(base_url=fake_site.url, cookies=client.cookies, headers=sent) as other:
        answer = await other.post(path, content=b'{"count": 1}')
    assert (answer.status_code, answer.json()["reason"]) == (403, "CROSS_SITE")
    assert not fake_site.oracle.leased


async def test_same_origin_writes_are_accepted(client: httpx.AsyncClient, fake_site: FakeSite) -> None:
    answer = await client.post(f"{RUN}/next", json={"count": 1}, headers={"Origin": fake_site.url})
    assert answer.status_code == 200


async def test_get_on_writing_endpoints_is_refused(client: httpx.AsyncClient, fake_site: FakeSite) -> None:
    for path in (f"{RUN}/next", f"{RUN}/answers", f"{RUN}/release", "/logout"):
        assert (await client.get(path)).status_code == 405
    assert not fake_site.oracle.leased


async def test_a_wrong_token_does_not_sign_in(stranger: httpx.AsyncClient) -> None:
    answer = await stranger.post("/login", json={"token": "guess", "name": "eve"})
    assert (answer.status_code, answer.json()["reason"]) == (403, "WRONG_TOKEN")
    assert not stranger.cookies


def refused_for_s(attempts: RateLimit, address: str) -> float:
    """Try a wrong token, and return how long to wait; 0 if the try was counted."""
    try:
        attempts.note_wrong(address)
    except LimitExceeded as error:
        return error.retry_after_s if f"try again in {error.retry_after_s} s" in error.message else -1.0
    return 0.0


def test_the_rate_of_wrong_tokens_of_an_address_is_limited() -> None:
    clock = 1000.0
    attempts = RateLimit(lambda: clock)
    assert [refused_for_s(attempts, "192.0.2.1") for _ in range(AT_ONCE + 2)] == [0.0] * AT_ONCE + [AGAIN_S, AGAIN_S]
    assert refused_for_s(attempts, "192.0.2.2") == 0.0
    clock += AGAIN_S
    assert [refused_for_s(attempts, "::ffff:192.0.2.1") for _ in range(2)] == [0.0, AGAIN_S]
    clock += 1000 * AGAIN_S
    assert [refused_for_s(attempts, "192.0.2.1") for _ in range(AT_ONCE + 1)] == [0.0] * AT_ONCE + [AGAIN_S]


def test_addresses_of_one_ipv6_network_share_a_limit() -> None:
    attempts = RateLimit(lambda: 1000.0)
    waits = [refused_for_s(attempts, f"2001:db8:0:1::{number:x}") for number in range(AT_ONCE + 1)]
    assert waits == [0.0] * AT_ONCE + [AGAIN_S]
    assert refused_for_s(attempts, "2001:db8:0:2::1") == 0.0


def test_wrong_tokens_of_all_addresses_together_are_limited_in_bounded_memory() -> None:
    attempts = RateLimit(lambda: 1000.0)
    waits = [refused_for_s(attempts, f"10.{number >> 8}.{number & 255}.1") for number in range(20_000)]
    assert waits.index(1.0) == ALL_AT_ONCE
    assert len(attempts) <= 10_000


async def test_after_many_wrong_tokens_the_right_one_still_opens_the_page(stranger: httpx.AsyncClient) -> None:
    answers = [(await stranger.get("/?token=guess&name=eve")).status_code for _ in range(AT_ONCE // 2)]
    while answers[-1] != 429 and len(answers) < 3 * AT_ONCE:
        answers.append((await stranger.post("/login", json={"token": "guess", "name": "eve"})).status_code)
    assert answers[AT_ONCE // 2 - 1 : AT_ONCE] == [303, *[403] * (AT_ONCE // 2)]
    refused = await stranger.post("/login", json={"token": "guess", "name": "eve"})
    assert (refused.status_code, refused.json()["reason"]) == (429, "TOO_MANY_ATTEMPTS")
    assert 1 <= int(refused.headers["retry-after"]) <= AGAIN_S
    link = await stranger.get("/?token=guess&name=eve", headers={"Accept": "text/html"})
    assert link.status_code == 429
    assert "try again in" in link.text
    assert not stranger.cookies
    answer = await stranger.post("/login", json={"token": TOKEN, "name": "ada"})
    assert answer.status_code == 200
    assert await lease(stranger)


async def test_somebody_who_was_removed_cannot_sign_in_by_any_name(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, fake_site: FakeSite
) -> None:
    for number, changed in enumerate(
        (
            AnnotatorsChanged(alias=AnnotatorAlias(name="ada@example.org", same_as="ada")),
            AnnotatorsChanged(removal=AnnotatorRemoval(name="ada"), changed_by="boss"),
        )
    ):
        changed.number = number
        fake_site.projections.take(Event(run_id="digits", annotators_changed=changed))
    for name in ("ada", " ada@example.org "):
        answer = await stranger.post("/login", json={"token": TOKEN, "name": name})
        assert (answer.status_code, answer.json()["reason"]) == (409, "ANNOTATOR_REMOVED")
        assert not stranger.cookies
    answer = await stranger.post("/login", json={"token": "guess", "name": "ada"})
    assert answer.json()["reason"] == "WRONG_TOKEN", "strangers learn nothing of annotators"
    assert (await stranger.post("/login", json={"token": TOKEN, "name": "bob"})).status_code == 200


async def test_wrong_tokens_behind_a_proxy_count_for_the_address_that_it_names(stranger: httpx.AsyncClient) -> None:
    async def guess(address: str) -> int:
        headers = {"X-Forwarded-For": address}  # trusted from 127.0.0.1, the test's address
        return (await stranger.post("/login", json={"token": "guess", "name": "eve"}, headers=headers)).status_code

    assert [await guess("192.0.2.1") for _ in range(AT_ONCE + 1)] == [403] * AT_ONCE + [429]
    assert await guess("192.0.2.2") == 403


@pytest.mark.parametrize("name", ["", "   ", *BAD_NAMES.values()])
async def test_signing_in_needs_a_valid_name(stranger: httpx.AsyncClient, name: str) -> None:
    said = json.dumps({"token": TOKEN, "name": name}).encode()
    answer = await stranger.post("/login", content=said)
    assert (answer.status_code, answer.json()["reason"]) == (400, "BAD_NAME")


async def test_the_cookie_is_same_site_and_http_only(stranger: httpx.AsyncClient) -> None:
    answer = await stranger.post("/login", json={"token": TOKEN, "name": "ada"})
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "secure" not in cookie, "it would not be sent over plain HTTP"


async def test_the_cookie_is_secure_behind_a_proxy_that_ends_tls(stranger: httpx.AsyncClient) -> None:
    proxied = {"X-Forwarded-Proto": "https"}  # trusted from 127.0.0.1, the test's address
    answer = await stranger.post("/login", json={"token": TOKEN, "name": "ada"}, headers=proxied)
    assert "secure" in answer.headers["set-cookie"].lower()


async def test_an_https_address_makes_the_cookie_secure() -> None:
    projections = FakeProjections()
    oracle = FakeOracle(projections)
    oracle.start_run()
    settings = WebSettings(http_port=0, http_token=SecretStr(TOKEN), http_url="https://labels.example/page")
    async with _inside(make_app(oracle, projections, settings)) as client:
        by_form = await client.post("/login", json={"token": TOKEN, "name": "ada"})
        by_link = await client.get(f"/runs/digits?token={TOKEN}&name=ada")
        gone = await client.post("/logout", json={})
    for answer in (by_form, by_link, gone):
        assert "secure" in answer.headers["set-cookie"].lower()


async def test_a_link_signs_in_and_the_address_keeps_no_token(stranger: httpx.AsyncClient) -> None:
    answer = await stranger.get(f"/runs/digits?token={TOKEN}&name=ada")
    assert (answer.status_code, answer.headers["location"]) == (303, "/runs/digits")
    assert (await stranger.get("/api/session")).json() == {"name": "ada", "known": True}


async def test_a_link_without_a_name_asks_only_for_the_name(stranger: httpx.AsyncClient) -> None:
    await stranger.get(f"/?token={TOKEN}")
    page = await stranger.get("/", follow_redirects=True)
    assert page.url.path == "/login"
    assert 'name="token"' not in page.text
    assert (await stranger.get("/api/session")).json() == {"name": None, "known": True}
    assert (await stranger.post("/login", json={"name": "ada"})).status_code == 200
    assert (await stranger.get("/api/session")).json() == {"name": "ada", "known": True}


async def test_a_link_with_a_wrong_token_leads_to_the_form(stranger: httpx.AsyncClient) -> None:
    page = await stranger.get("/?token=guess&name=eve", follow_redirects=True)
    assert page.url.path == "/login"
    assert "wrong token" in page.text
    assert (await stranger.get("/api/session")).json() == {"name": None, "known": False}


@pytest.mark.parametrize(
    ("asked", "page"),
    [
        ("/login?next=/runs/digits", "/runs/digits"),
        ("/?next=/runs/digits", "/runs/digits"),
        ("/runs/digits?view=small", "/runs/digits?view=small"),
        ("/login?", "/"),
        ("/?next=//evil.example/runs/digits", "/"),
        ("/?next=/%5Cevil.example", "/"),
        ("/?next=https://evil.example/", "/"),
    ],
)
async def test_a_link_leads_to_the_page_that_was_asked_for(stranger: httpx.AsyncClient, asked: str, page: str) -> None:
    answer = await stranger.get(f"{asked}&token={TOKEN}&name=ada".replace("?&", "?"))
    assert (answer.status_code, answer.headers["location"]) == (303, page)
    assert (await stranger.get("/api/session")).json() == {"name": "ada", "known": True}


async def test_signing_out_ends_the_session(client: httpx.AsyncClient, stranger: httpx.AsyncClient) -> None:
    kept = dict(client.cookies)
    other = await stranger.post("/login", json={"token": TOKEN, "name": "ada"})
    assert other.status_code == 200
    await client.post("/logout", json={})
    assert (await client.get("/api/session")).json() == {"name": None, "known": False}
    client.cookies.update(kept)  # as somebody would who had copied the cookie
    assert (await client.get("/api/session")).json() == {"name": None, "known": False}
    assert (await client.post(f"{RUN}/next", json={})).status_code == 401
    assert await lease(stranger), "a session of the same name goes on"


def test_forged_and_expired_cookies_are_refused() -> None:
    cookie = seal("ada", TOKEN, 1000.0)
    session = unseal(cookie, TOKEN, 1001.0)
    assert session is not None
    assert (session.name, session.until) == ("ada", 1000 + LIFETIME_S)
    assert unseal(cookie, TOKEN, 999.0) is None, "it lasts longer than sessions do"
    assert unseal(cookie, "another token", 1001.0) is None
    assert unseal(cookie, TOKEN, 1001.0 + LIFETIME_S) is None
    body, _, signature = cookie.partition(".")
    forged = base64.urlsafe_b64encode(json.dumps({"name": "eve", "until": 9e9}).encode()).decode().rstrip("=")
    for bad in ("", ".", "..", body, f"{forged}.{signature}", f"{body}.", f"{body}.é", "%%.%%", f"{body}.{signature}A"):
        assert unseal(bad, TOKEN, 1001.0) is None, bad


@pytest.mark.parametrize(
    ("path", "body", "reason"),
    [
        ("next", b"", "NOT_JSON"),
        ("next", b"[]", "NOT_JSON"),
        ("next", b"[" * 60_000, "NOT_JSON"),
        ("next", b"\xff\xfe", "NOT_JSON"),
        ("next", b'{"count": 0}', "BAD_COUNT"),
        ("next", b'{"count": true}', "BAD_COUNT"),
        ("next", b'{"count": 1e3}', "BAD_COUNT"),
        ("next", b'{"count": 51}', "BAD_COUNT"),
        ("answers", b"{}", "BAD_RESULTS"),
        ("answers", b'{"results": []}', "BAD_RESULTS"),
        ("answers", b'{"results": [7]}', "BAD_RESULT"),
        ("answers", b'{"results": [{"label": "x"}]}', "BAD_RESULT"),
        ("answers", b'{"results": [{"label": -1}]}', "BAD_RESULT"),
        ("answers", b'{"results": [{"nonsense": 1}]}', "BAD_RESULT"),
        ("answers", b'{"results": [{"label": 1, "skip": "SKIP_KIND_SKIPPED"}]}', "BAD_RESULT"),
        ("answers", b'{"results": [{"request_id": "\\ud800"}]}', "BAD_RESULT"),
        ("answers", b'{"results": [{"request_id": "other/0/1/0", "label": 1}]}', "OTHER_RUN"),
        ("answers", b'{"results": [{"label": 1}]}', "OTHER_RUN"),
        ("next", b'{"have": "x"}', "BAD_REQUEST_IDS"),
        ("release", b'{"request_ids": null}', "BAD_REQUEST_IDS"),
        ("release", b'{"request_ids": [1]}', "BAD_REQUEST_IDS"),
        ("release", b'{"request_ids": ["other/0/1/0"]}', "OTHER_RUN"),
    ],
)
async def test_invalid_input_is_refused(client: httpx.AsyncClient, path: str, body: bytes, reason: str) -> None:
    answer = await client.post(f"{RUN}/{path}", content=body)
    assert (answer.status_code, answer.json()["reason"]) == (400, reason)
    assert answer.json()["message"]


async def test_a_large_body_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.post(f"{RUN}/answers", content=b" " * 100_000)
    assert (answer.status_code, answer.json()["reason"]) == (413, "BODY_TOO_LARGE")


@pytest.mark.parametrize("path", ["/runs/none", "/api/runs/none/events"])
async def test_an_unknown_run_is_not_found(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert (answer.status_code, answer.json()["reason"]) == (404, "UNKNOWN_RUN")
    shown = await client.get(path, headers={"Accept": "text/html"})
    assert shown.status_code == 404
    assert "there is no run" in shown.text


@pytest.mark.parametrize(
    ("deleted", "reason", "said"),
    [
        (None, "RUN_ARCHIVED", "all answers are kept"),
        (RunDeleted(), "RUN_DELETED", "nothing left to label in it"),
    ],
)
async def test_an_old_link_says_what_became_of_the_run(
    client: httpx.AsyncClient, fake_site: FakeSite, deleted: RunDeleted | None, reason: str, said: str
) -> None:
    fake_site.projections.archive(fake_site.run_id, deleted)
    for path in (f"/runs/{fake_site.run_id}", f"/api/runs/{fake_site.run_id}/events"):
        shown = await client.get(path, headers={"Accept": "text/html"})
        assert shown.status_code == 409
        assert said in shown.text
        assert "That did not work" not in shown.text
    refused = await client.post(f"{RUN}/next", json={"count": 1})
    assert (refused.status_code, refused.json()["reason"]) == (409, reason)
    assert said in refused.json()["message"]


async def test_progress_ends_when_the_run_is_archived(client: httpx.AsyncClient, fake_site: FakeSite) -> None:
    async with asyncio.timeout(PATIENCE_S), client.stream("GET", f"{RUN}/events") as answer:
        lines = answer.aiter_lines()
        assert await anext(lines)
        fake_site.projections.archive(fake_site.run_id)
        assert [line async for line in lines]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidInput("A", "m"), 400),
        (WrongState("A", "m"), 409),
        (NotAllowed("A", "m"), 403),
        (LimitExceeded("A", "m"), 413),
        (LimitExceeded("A", "m", retry_after_s=3.0), 429),
        (Unready("A", "m", retry_after_s=3.0), 503),
        (Corrupt("A", "m"), 500),
    ],
)
async def test_errors_map_to_http_statuses(
    fake_site: FakeSite, client: httpx.AsyncClient, error: LabelloopError, status: int
) -> None:
    fake_site.oracle.failure = error
    (request,) = await lease(client)
    results = [{"request_id": request["request_id"], "label": 1}]
    answer = await client.post(f"{RUN}/answers", json={"results": results})
    assert (answer.status_code, answer.json()) == (status, {"reason": "A", "message": "m"})
    if status == 503:
        assert answer.headers["retry-after"] == "3"


async def test_the_start_page_redirects_to_a_single_run(client: httpx.AsyncClient) -> None:
    answer = await client.get("/")
    assert (answer.status_code, answer.headers["location"]) == (303, "/runs/digits")


async def test_several_runs_are_listed_with_open_requests(fake_site: FakeSite, client: httpx.AsyncClient) -> None:
    fake_site.oracle.start_run("<b>letters", batch_size=3)
    fake_site.oracle.start_run("by-tool", queue=QueueSpec(tool="label-studio"))
    text = (await client.get("/")).text
    assert "&lt;b&gt;letters" in text
    assert "<b>letters" not in text
    assert "5 to label" in text
    assert "labelled in label-studio" in text


async def test_the_page_names_the_annotator_and_escapes_classes(client: httpx.AsyncClient, fake_site: FakeSite) -> None:
    fake_site.oracle.start_run("odd", classes=("it's", '"quoted"', "<i>"))
    text = (await client.get("/runs/odd")).text
    assert "<i>" not in text
    assert 'data-annotator="ada"' in text


async def test_responses_have_security_headers(client: httpx.AsyncClient) -> None:
    page = await client.get("/runs/digits")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert page.headers["x-frame-options"] == "DENY"
    assert page.headers["cache-control"] == "no-store"
    assert "server" not in page.headers
    static = await client.get("/static/page.js")
    assert (static.status_code, static.headers["cache-control"]) == (200, "no-cache")


async def events(response: httpx.Response) -> AsyncIterator[tuple[str, Any]]:
    kind = ""
    async for line in response.aiter_lines():
        if line.startswith("event: "):
            kind = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield kind, json.loads(line.removeprefix("data: "))


async def test_progress_is_streamed(fake_site: FakeSite, client: httpx.AsyncClient) -> None:
    async with client.stream("GET", f"{RUN}/events") as response, asyncio.timeout(PATIENCE_S):
        told = events(response)
        assert [(await anext(told))[0], (await anext(told))[0]] == ["curves", "now"]
        (request,) = await lease(client)
        results = [{"request_id": request["request_id"], "label": 4}]
        await client.post(f"{RUN}/answers", json={"results": results})
        kind, now = await anext(told)
        assert (kind, now["labels"], now["counts"][4], now["open"]) == ("now", 1, 1, fake_site.batch_size - 1)


async def test_quick_changes_share_progress_events(fake_site: FakeSite) -> None:
    oracle = fake_site.oracle
    leased = await oracle.LeaseNext(LeaseNextRequest(run_id="digits", annotator="ada", count=4), None)
    told = EventStreams(fake_site.projections).progress("digits")
    await anext(told), await anext(told)

    async def answer_one_by_one() -> None:
        for each in leased.requests:
            result = LabelResult(request_id=each.request_id, label=1, annotator="ada")
            await oracle.SubmitResults(SubmitResultsRequest(results=[result]), None)
            await asyncio.sleep(0.005)  # time for an event, if events were not delayed

    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as tasks:
        tasks.create_task(answer_one_by_one())
        messages = 0
        while True:
            messages += 1
            if json.loads(str((await anext(told)).data))["labels"] == 4:
                break
    assert messages < 4, "not one for each"


async def test_a_stream_ends_with_the_session_that_opened_it(
    fake_site: FakeSite, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oracle_svc.web.sse.LOOK_AGAIN_S", 0.05)
    async with asyncio.timeout(PATIENCE_S), client.stream("GET", f"{RUN}/events") as response:
        told = events(response)
        assert [(await anext(told))[0] for _ in range(2)] == ["curves", "now"]
        await client.post("/logout", json={})
        assert [kind async for kind, _ in told if kind != "beat"] == []


async def test_one_annotator_cannot_take_all_streams(
    fake_site: FakeSite, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with AsyncExitStack() as opened:
        for _ in range(STREAMS_OF_ONE):
            response = await opened.enter_async_context(client.stream("GET", f"{RUN}/events"))
            assert response.status_code == 200
        refused = await client.get(f"{RUN}/events")
        assert (refused.status_code, refused.json()["reason"]) == (429, "TOO_MANY_STREAMS")
        async with httpx.AsyncClient(base_url=fake_site.url, headers=OWN) as other:
            await other.post("/login", json={"token": TOKEN, "name": "bob"})
            async with other.stream("GET", f"{RUN}/events") as response:
                assert response.status_code == 200

    async def opened_again() -> int:
        async with client.stream("GET", f"{RUN}/events") as response:
            return response.status_code

    await eventually(opened_again, lambda status: status == 200)


def test_a_heartbeat_is_a_named_event() -> None:
    assert heartbeat().encode() == b"event: beat\r\ndata: {}\r\nretry: 2000\r\n\r\n"


async def test_the_server_stops_promptly_despite_open_streams() -> None:
    projections = FakeProjections()
    FakeOracle(projections).start_run()
    settings = WebSettings(http_port=0, http_token=SecretStr(TOKEN), drain_s=20)
    server = WebServer(make_app(FakeOracle(projections), projections, settings), settings)
    await server.start()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", headers=OWN) as client:
        await client.post("/login", json={"token": TOKEN, "name": "ada"})
        async with client.stream("GET", f"{RUN}/events") as response:
            told = events(response)
            await anext(told), await anext(told)
            began_s = time.monotonic()
            await asyncio.gather(server.stop(), _end(told))
            assert time.monotonic() - began_s < 5, "well within the drain"


async def _end(told: AsyncIterator[tuple[str, Any]]) -> None:
    async for _ in told:
        pass


async def test_an_occupied_port_is_an_error_that_names_the_setting() -> None:
    settings = WebSettings(http_port=0, http_token=SecretStr(TOKEN))
    app = make_app(FakeOracle(FakeProjections()), FakeProjections(), settings)
    first = WebServer(app, settings)
    await first.start()
    taken = settings.model_copy(update={"http_port": first.port})
    with pytest.raises(WrongState, match="LABELLOOP_HTTP_PORT"):
        await WebServer(app, taken).start()
    await first.stop()
    again = WebServer(app, taken)
    await again.start()
    await again.stop()


async def test_other_routes_of_the_server_need_no_sign_in() -> None:
    async def hook(request: Request) -> PlainTextResponse:
        return PlainTextResponse("taken")

    settings = WebSettings(http_port=0, http_token=SecretStr(TOKEN))
    app = make_app(
        FakeOracle(FakeProjections()), FakeProjections(), settings, [Route("/hooks/tool", hook, methods=["POST"])]
    )
    async with _inside(app) as client:
        assert (await client.post("/hooks/tool")).text == "taken"


def _inside(app: Starlette) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://oracle", headers=OWN)


async def test_a_reverse_proxys_header_names_the_annotator() -> None:
    projections = FakeProjections()
    oracle = FakeOracle(projections)
    oracle.start_run()
    app = make_app(oracle, projections, WebSettings(http_port=0, http_user_header="X-Forwarded-User"))
    async with _inside(app) as client:
        assert (await client.post(f"{RUN}/next", json={})).status_code == 401
        assert (await client.get("/runs/digits")).status_code == 403
        named = {"X-Forwarded-User": "zoë".encode()}
        assert (await client.get("/api/session", headers=named)).json()["name"] == "zoë"  # type: ignore[arg-type]
        assert "Sign out" not in (await client.get("/runs/digits", headers=named)).text  # type: ignore[arg-type]
        assert (await client.get("/login")).headers["location"] == "/"
        assert (await client.post("/login", json={"name": "eve", "token": ""})).status_code == 400
        assert (await client.get("/api/session", headers={"Cookie": "labelloop_session=x"})).json() == {
            "name": None,
            "known": False,
        }


async def test_the_proxys_header_is_ignored_if_a_token_is_required(fake_site: FakeSite) -> None:
    async with httpx.AsyncClient(base_url=fake_site.url, headers={**OWN, "X-Forwarded-User": "eve"}) as client:
        assert (await client.post(f"{RUN}/next", json={})).status_code == 401


def test_the_page_is_off_by_default_and_its_settings_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LABELLOOP_HTTP_PORT", raising=False)
    assert from_environment() is None
    monkeypatch.setenv("LABELLOOP_HTTP_PORT", "0")
    with pytest.raises(InvalidInput, match="LABELLOOP_HTTP_TOKEN"):
        from_environment()
    monkeypatch.setenv("LABELLOOP_HTTP_TOKEN", TOKEN)
    settings = from_environment()
    assert settings is not None
    assert TOKEN not in repr(settings)
    monkeypatch.setenv("LABELLOOP_HTTP_USER_HEADER", "X-User")
    with pytest.raises(InvalidInput, match="one of"):
        from_environment()
    monkeypatch.setenv("LABELLOOP_HTTP_TOKEN", "short")
    with pytest.raises(SystemExit):
        from_environment()


def test_run_projections_match_the_pages_interface() -> None:
    """For mypy: the page's interface accepts the oracle's projections."""
    projections: RunProjections[LabelingState] = RunProjections(LabelingState.begin)
    taken: Projections = projections
    assert taken.runs == {}
