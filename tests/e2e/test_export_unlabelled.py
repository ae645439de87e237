"""Export of the samples that auto-labelling leaves to people."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow.parquet
import pytest
from grpc import StatusCode
from grpc.aio import AioRpcError, Metadata
from labelloop.events.v1.events_pb2 import LabelSource
from labelloop.scorer.v1.scorer_pb2 import RankPoolStreamRequest
from labelloop_cli.clients import Clients
from labelloop_cli.local.stack import Stack
from labelloop_cli.reporting.unlabelled import RankedPart, ranked_rest
from pyroaring import BitMap

from tests.blobs import POOL_SIZE, Blobs, certified_spec
from tests.e2e.driving import finish, start
from tests.e2e.test_cli import labelloop

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def clients(shared_clients: Clients) -> Clients:
    return shared_clients


@pytest.fixture
def stack(shared_stack: Stack) -> Stack:
    return shared_stack


async def test_unlabelled_samples_are_exported_least_confident_first(
    stack: Stack, clients: Clients, run_id: str, blobs: Blobs, tmp_path: Path
) -> None:
    await start(clients, run_id, certified_spec(blobs))
    run = (await finish(clients, run_id)).run
    labelled = {record.sample_id for record in await clients.labels(run_id)}
    output = tmp_path / "rest.parquet"
    code, text = await labelloop("export", "unlabelled", run_id, "-o", output, stack=stack)
    assert code == 0, text
    table = pyarrow.parquet.read_table(output)
    assert sorted([*table["id"].to_pylist(), *labelled]) == list(range(POOL_SIZE))
    confidence = np.asarray(table["confidence"])
    assert np.all(np.diff(confidence) >= 0)
    assert np.all((confidence > 0) & (confidence < run.certificate.threshold))
    assert set(table["predicted"].to_pylist()) <= set(run.pool.classes)
    assert f"{table.num_rows} samples" in text


class Older:
    """The stub of a scorer that has no RankPoolStream."""

    def __init__(self, stub: Any) -> None:
        self.RankPool = stub.RankPool

    async def RankPoolStream(self, request: RankPoolStreamRequest) -> AsyncIterator[Any]:  # noqa: N802
        raise AioRpcError(StatusCode.UNIMPLEMENTED, Metadata(), Metadata(), "Method not found!")
        yield


async def test_pages_of_an_older_scorer_give_the_same_ranking(clients: Clients, run_id: str, blobs: Blobs) -> None:
    await start(clients, run_id, certified_spec(blobs, guarantee=None, label_budget=20))
    run = (await finish(clients, run_id)).run
    taken = BitMap(range(100))
    whole = [page async for page in ranked_rest(clients, run, taken)]
    assert len(whole) == 1
    assert sorted(_ids(whole)) == list(range(100, POOL_SIZE))
    older = replace(clients, scorer=cast(Any, Older(clients.scorer)))
    for size, count in ((7, 29), (100, 3), (POOL_SIZE, 1)):
        pages = [page async for page in ranked_rest(older, run, taken, at_once=size)]
        assert len(pages) == count
        assert _ids(pages) == _ids(whole)
        for name in ("predicted", "confidence"):
            values = [value for page in pages for value in getattr(page, name)]
            assert values == [value for page in whole for value in getattr(page, name)]
    assert taken == BitMap(range(100))


async def test_an_export_without_a_model_says_so(stack: Stack, clients: Clients, run_id: str, blobs: Blobs) -> None:
    spec = certified_spec(blobs)
    spec.label_source = LabelSource.LABEL_SOURCE_QUEUE
    await start(clients, run_id, spec)
    code, text = await labelloop("export", "unlabelled", run_id, stack=stack)
    assert code == 1
    assert "no model yet" in text


def _ids(pages: list[RankedPart]) -> list[int]:
    return [sample_id for page in pages for sample_id in page.sample_ids]
