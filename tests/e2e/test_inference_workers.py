"""Several scoring processes answer the Open Inference Protocol on one port each for gRPC and HTTP."""

from __future__ import annotations

import asyncio

import httpx
import numpy as np
import pytest
from labelloop_cli.clients import connect
from labelloop_cli.local.stack import Service, Stack

from tests.blobs import Blobs, spec
from tests.e2e.driving import finish, start


@pytest.fixture
def rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABELLOOP_REST_PORT", "0")
    monkeypatch.setenv("SCORER_WORKERS", "2")


@pytest.mark.usefixtures("rest")
async def test_workers_share_the_port_and_no_answer_is_cut_short_at_the_stop(stack: Stack, blobs: Blobs) -> None:
    async with connect(stack.endpoints) as clients:
        await start(clients, "run", spec(blobs, label_budget=10, auto_label_budget=0))
        await finish(clients, "run")
    scorer: Service = stack.services["scorer"]
    images = np.load(blobs.samples)
    tensor = {"name": "samples", "datatype": "UINT8", "shape": list(images.shape), "data": images.ravel().tolist()}
    url = f"http://127.0.0.1:{scorer.rest_port}/v2/models/run/infer"

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(timeout=60) as client:  # a connection each: they go to either worker
            return await client.post(url, json={"inputs": [tensor]})

    answers = await asyncio.gather(*(ask() for _ in range(16)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    asking = [asyncio.create_task(ask()) for _ in range(16)]
    await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
    await scorer.stop()
    outcomes = await asyncio.gather(*asking, return_exceptions=True)
    whole = [each for each in outcomes if isinstance(each, httpx.Response)]
    assert {each.status_code for each in whole} == {200}
    assert {each.content for each in whole} == {answers[0].content}
    assert all(isinstance(each, httpx.TransportError | httpx.Response) for each in outcomes), outcomes
