"""The oracle's endpoints for Label Studio: valid, forged and malformed calls."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from itertools import count

import httpx
import pytest
from labelloop.errors import LabelloopError, NotFound
from starlette.applications import Starlette

from oracle_svc.integrations.label_studio.client import SECRET_HEADER
from oracle_svc.integrations.label_studio.endpoints import BODY_BYTES_MAX, ML_PATH, WEBHOOK_PATH, call_routes

SECRET = "a secret of sixteen characters"
CALL = b'{"project": {"id": 7}, "task": {"id": 3}}'


class Looks:
    """Records tasks to fetch; raises ``error``."""

    def __init__(self) -> None:
        self.tasks: list[tuple[int, list[int]]] = []
        self.error: LabelloopError | None = None

    async def __call__(self, project_id: int, task_ids: Sequence[int]) -> None:
        self.tasks.append((project_id, list(task_ids)))
        if self.error:
            raise self.error


@pytest.fixture
def looks() -> Looks:
    return Looks()


@pytest.fixture
async def caller(looks: Looks) -> AsyncIterator[httpx.AsyncClient]:
    app = Starlette(routes=call_routes(SECRET, looks, lambda request_id: None))
    transport, headers = httpx.ASGITransport(app), {SECRET_HEADER: SECRET}
    async with httpx.AsyncClient(transport=transport, base_url="http://oracle", headers=headers) as client:
        yield client


async def test_a_call_fetches_the_task_that_it_names(caller: httpx.AsyncClient, looks: Looks) -> None:
    assert (await caller.post(WEBHOOK_PATH, content=CALL)).status_code == 200
    assert looks.tasks == [(7, [3])]


async def test_a_call_without_the_secret_is_refused(caller: httpx.AsyncClient, looks: Looks) -> None:
    answer = await caller.post(WEBHOOK_PATH, content=CALL, headers={SECRET_HEADER: "another"})
    assert (answer.status_code, answer.json()["reason"]) == (401, "NO_SECRET")
    assert not looks.tasks


@pytest.mark.parametrize("path", [WEBHOOK_PATH, f"{ML_PATH}/predict"])
async def test_a_body_that_is_too_large_is_refused_before_its_end(
    caller: httpx.AsyncClient, looks: Looks, path: str
) -> None:
    part, sent = bytes(1024 * 1024), count(1)

    async def large() -> AsyncIterator[bytes]:
        while next(sent) < 2 * BODY_BYTES_MAX // len(part):
            yield part

    answer = await caller.post(path, content=large())
    assert (answer.status_code, answer.json()["reason"]) == (413, "BODY_TOO_LARGE")
    assert next(sent) < 2 * BODY_BYTES_MAX // len(part)
    assert not looks.tasks


@pytest.mark.parametrize(
    ("path", "body", "reason"),
    [
        (WEBHOOK_PATH, b"{no json", "MALFORMED"),
        (WEBHOOK_PATH, b"[]", "MALFORMED"),
        (WEBHOOK_PATH, b"\xff", "MALFORMED"),
        (WEBHOOK_PATH, b"[" * 100_000, "MALFORMED"),
        (WEBHOOK_PATH, b"{}", "NO_PROJECT"),
        (f"{ML_PATH}/predict", b"{}", "NO_TASKS"),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_a_malformed_or_incomplete_call_is_refused(
    caller: httpx.AsyncClient, path: str, body: bytes, reason: str
) -> None:
    answer = await caller.post(path, content=body)
    assert (answer.status_code, answer.json()["reason"]) == (400, reason)


async def test_a_call_can_be_repeated_after_a_failed_fetch(caller: httpx.AsyncClient, looks: Looks) -> None:
    looks.error = NotFound("NOT_IN_LABEL_STUDIO", "no such project")
    answer = await caller.post(WEBHOOK_PATH, content=CALL)
    assert (answer.status_code, answer.json()["reason"]) == (503, "NOT_IN_LABEL_STUDIO")
    looks.error = None
    assert (await caller.post(WEBHOOK_PATH, content=CALL)).status_code == 200
