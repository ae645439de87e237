"""Samples sent as links by running services."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from labelloop.events.v1.events_pb2 import Protocol, QueueSpec
from labelloop.trainer.v1.trainer_pb2 import Phase
from labelloop_cli.clients import connect
from labelloop_cli.local.stack import Page, running

from oracle_svc.samples.encoding import picture_of
from tests.blobs import Blobs, spec
from tests.e2e.driving import finish, start
from tests.ports import free_port
from tests.queues.message_contract import come
from tests.queues.nats_tool import nats_tool

QUEUE = 2
ANNOTATOR = Path(__file__).parents[1] / "queues" / "example_annotator.py"


async def test_an_annotator_labels_by_links_until_the_run_ends(
    tmp_path: Path, nats_binary: Path, blobs: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    monkeypatch.setenv("LABELLOOP_HTTP_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("LABELLOOP_INLINE_BYTES_MAX", "0")
    async with (
        running(tmp_path / "store", page=Page(port=port)) as stack,
        connect(stack.endpoints) as clients,
        httpx.AsyncClient() as web,
    ):
        changes = {"label_source": QUEUE, "label_budget": 10, "auto_label_budget": 0}
        protocol = {"protocol": Protocol.PROTOCOL_HONEST, "stopping_sample_count": 0}
        await start(clients, "linked", spec(blobs, **changes, **protocol, queue=QueueSpec(tool="nats")))
        assert stack.broker is not None, "the stack started one"
        async with nats_tool(stack.broker) as tool:
            [request, *_] = await come(tool, 1)
        assert "content" not in request
        await check_shown(web, request, blobs)
        oracle = stack.services["oracle"]
        await oracle.stop()
        await oracle.start()
        await check_shown(web, request, blobs)
        annotator = await asyncio.create_subprocess_exec(sys.executable, ANNOTATOR, stack.nats_url, "linked", "ann")
        try:
            end = (await finish(clients, "linked")).run
        finally:
            annotator.terminate()
            await annotator.wait()
        assert (end.phase, end.labels_paid) == (Phase.PHASE_FINISHED, 10)
        await check_shown(web, request, blobs)


async def check_shown(web: httpx.AsyncClient, request: dict[str, Any], blobs: Blobs) -> None:
    """Check that the link shows the sample, but not without its whole key."""
    shown = await web.get(request["uri"])
    picture = picture_of(np.load(blobs.samples)[request["sample_id"]])
    assert (shown.status_code, shown.content) == (200, picture.content)
    assert request["sha256"] == picture.sha256
    assert (await web.get(request["uri"][:-1])).status_code == 403
