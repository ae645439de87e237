"""A sample too large for a tool's messages, and an oracle's port that serves it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from labelloop.events.v1.events_pb2 import DatasetSource, LabelSource
from labelloop.oracle.v1.oracle_pb2 import LabelRequest
from starlette.applications import Starlette

from oracle_svc.bootstrap import Oracle
from oracle_svc.domain.open_requests import OpenRequest
from oracle_svc.samples.signed_urls import SignedUrls
from tests.ports import free_port
from tests.published import artifacts_in, published
from tests.queues.http_server import served
from tests.unused import UNUSED
from tests.web.asked_samples import ASKED, Log


@asynccontextmanager
async def shown_large_samples(
    folder: Path, pixels: int = 555
) -> AsyncIterator[tuple[LabelRequest, LabelRequest, bytes]]:
    """Yield the request for a noise image, ``pixels`` wide and high, with a link that is served meanwhile and with
    the sample itself; and that sample as a PNG, of ``pixels`` squared bytes or a little more."""
    noise = np.random.default_rng(5).integers(0, 256, (10, pixels, pixels), np.uint8)
    np.save(folder / "noise.npy", noise)
    log, port = Log(), free_port()
    source = DatasetSource(name=str(folder / "noise.npy"), classes=["a", "b"])
    pool = await published(source, folder)
    labeling = log.begin("run-1", source, LabelSource.LABEL_SOURCE_QUEUE, pool)
    links, ask = SignedUrls(f"http://127.0.0.1:{port}", "a secret of links"), OpenRequest("run-1", 0, ASKED, 0, 1)
    given = (UNUSED, artifacts_in(folder), UNUSED, UNUSED, UNUSED)
    oracle = Oracle(*given, links=links, samples_dir=folder / "cache", projections=log.projections)
    linked = await oracle.samples.request(labeling, ask)
    whole = await replace(oracle, links=None).samples.request(labeling, ask)
    assert len(whole.content) >= pixels**2
    async with served(Starlette(routes=oracle.routes()), port):
        yield linked, whole, whole.content


async def fetched(request: dict[str, Any]) -> bytes:
    """Fetch what a tool's request links to."""
    async with httpx.AsyncClient() as client:
        answer = await client.get(request["uri"])
    assert (answer.status_code, answer.headers["content-type"]) == (200, request["media_type"])
    assert answer.headers["etag"] == f'"{request["sha256"]}"'
    return answer.content
