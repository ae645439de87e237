"""Malformed and odd HTTP requests to the oracle are answered below 500, or the connection is closed, in time."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st
from labelloop.events.v1.events_pb2 import LabelSource
from labelloop_cli.clients import connect
from labelloop_cli.local.stack import Page, Stack, running

from oracle_svc.integrations.webhook.signatures import Signatures
from tests.blobs import write_blobs
from tests.e2e.driving import start
from tests.e2e.good_requests import brief_spec, open_samples
from tests.e2e.nasty import damaged
from tests.e2e.raw_http import Http, exchange, odd
from tests.e2e.unharmed import unharmed
from tests.examples import drawn
from tests.ports import free_port

_TOKEN, _SECRET = "sesame-open-sesame", "whsec_" + "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIzNDU="
_OWN = {"X-Labelloop": "1", "Content-Type": "application/json"}
_ANSWER_S, _EOF_AFTER_S = 30.0, 0.05
_GROWTH_MAX_BYTES = 256 * 1024**2
_ANY_ID = "open/0/1/0"  # of a request that is perhaps not open
_ANSWER = {"request_id": _ANY_ID, "label": 1}

pytestmark = pytest.mark.asyncio(loop_scope="module")
GOOD = {
    "list of runs": Http("GET", "/"),
    "link with a token": Http("GET", f"/?token={_TOKEN}&name=ada"),
    "page of a run": Http("GET", "/runs/open"),
    "session": Http("GET", "/api/session"),
    "next": Http("POST", "/api/runs/open/next", _OWN, {"count": 2, "have": [_ANY_ID]}),
    "answers": Http("POST", "/api/runs/open/answers", _OWN, {"results": [_ANSWER]}),
    "release": Http("POST", "/api/runs/open/release", _OWN, {"request_ids": [_ANY_ID]}),
    "events": Http("GET", "/api/runs/open/events"),
    "sign-in page": Http("GET", "/login?next=/runs/open"),
    "sign-in": Http("POST", "/login", _OWN, {"token": _TOKEN, "name": "ada"}),
    "sign-out": Http("POST", "/logout", _OWN, {}),
    "health": Http("GET", "/healthz"),
    "script": Http("GET", "/static/page.js"),
    "sample": Http("GET", "/samples/open/1?key=0"),
    "webhook": Http("POST", "/queue/results", {}, {"type": "label.submitted", "data": {"results": [_ANSWER]}}),
}
each_request = pytest.mark.parametrize("name", GOOD)


@dataclass(frozen=True, repr=False)
class World:
    stack: Stack
    cookie: str
    other_cookie: str
    open_id: str

    @property
    def port(self) -> int:
        return self.stack.services["oracle"].http_port


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory, nats_binary: Path) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("bad_http")
    with ExitStack() as undo:
        environment = undo.enter_context(pytest.MonkeyPatch.context())
        environment.setenv("LABELLOOP_WEBHOOK_URL", f"http://127.0.0.1:{free_port()}/")
        environment.setenv("LABELLOOP_WEBHOOK_SECRET", _SECRET)
        async with running(folder / "store", page=Page(token=_TOKEN)) as stack, connect(stack.endpoints) as clients:
            await start(clients, "open", brief_spec(write_blobs(folder), LabelSource.LABEL_SOURCE_QUEUE))
            [first, *_] = await open_samples(clients)
            port = stack.services["oracle"].http_port
            yield World(stack, await _sign_in(port), await _sign_in(port), f"open/0/{first}/0")


async def _sign_in(port: int) -> str:
    """Return the cookie of an annotator's session."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=_OWN) as client:
        answer = await client.post("/login", json=GOOD["sign-in"].body)
    assert answer.status_code == 200, answer.text
    return "; ".join(f"{name}={value}" for name, value in client.cookies.items())


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def services_stay_unharmed(world: World) -> AsyncIterator[None]:
    with unharmed(world.stack, _GROWTH_MAX_BYTES):
        yield


def signed(world: World, request: Http) -> Http:
    """Name a request that is open; add the cookie of a session, and to what a tool sends its signature."""
    if not isinstance(request.body, bytes):
        request = replace(request, body=json.loads(json.dumps(request.body).replace(_ANY_ID, world.open_id)))
    if request.target != "/queue/results":
        cookie = world.other_cookie if request.target.startswith("/logout") else world.cookie  # of a session that ends
        return replace(request, headers={"Cookie": cookie, **request.headers})
    body = request.body if isinstance(request.body, bytes) else json.dumps(request.body).encode()
    headers = Signatures([_SECRET]).headers(f"msg_{uuid4().hex}", body.decode(errors="replace"))
    return replace(request, headers={**headers, **request.headers}, body=body)


async def status_of_odd(world: World, data: bytes) -> int:
    return await exchange(world.port, data, _ANSWER_S, _EOF_AFTER_S)


@each_request
async def test_good_requests_are_taken(world: World, name: str) -> None:
    status = await exchange(world.port, signed(world, GOOD[name]).data(), _ANSWER_S)
    assert status in ((404,) if name == "sample" else (200, 303))


@each_request
@drawn(60)
@given(data=st.data())
async def test_odd_requests_are_answered_below_500(world: World, name: str, data: st.DataObject) -> None:
    request = data.draw(odd(GOOD[name]))
    assert await status_of_odd(world, signed(world, request).data()) < 500


@each_request
@drawn(40)
@given(data=st.data())
async def test_damaged_requests_are_answered_below_500(world: World, name: str, data: st.DataObject) -> None:
    whole = replace(GOOD[name], headers={"Cookie": "", **GOOD[name].headers}).data()
    assert await status_of_odd(world, data.draw(damaged(whole))) < 500


async def test_the_page_still_answers_at_the_end(world: World) -> None:
    assert await exchange(world.port, signed(world, GOOD["next"]).data(), _ANSWER_S) == 200
