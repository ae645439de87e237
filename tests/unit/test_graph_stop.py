"""Runs of graphs end with the call that they are for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest
from labelloop.domain.abandonment import Abandoned
from labelloop.errors import LimitExceeded
from labelloop.runtime.async_cache import AsyncCache
from labelloop.scorer.v1 import scorer_pb2 as pb
from labelloop.scorer.v1.scorer_pb2_grpc import ScorerServiceStub, add_ScorerServiceServicer_to_server
from numpy.typing import NDArray
from onnx import helper
from onnxruntime import InferenceSession

from scorer_svc.models.graph import Graph
from scorer_svc.models.model import Model
from scorer_svc.models.running import Stopped, stoppable
from scorer_svc.scoring.score import Scoring
from scorer_svc.service import ScorerService
from tests.onnx_graphs import graph_of
from tests.patience import PATIENCE_S
from tests.unused import UNUSED

WIDTH = 500


def products(count: int, last: str = "Identity") -> bytes:
    """Return a graph of ``count`` products of a sample with the same square matrix."""
    names = ["samples", *(f"p{number}" for number in range(count))]
    nodes = [helper.make_node("MatMul", [names[i], "matrix"], [names[i + 1]]) for i in range(count)]
    final = helper.make_node(last, [names[-1]], ["features"])
    return graph_of([*nodes, final], WIDTH, {"matrix": np.full((WIDTH, WIDTH), 1 / WIDTH, np.float32)})


class Watched(Graph):
    """Counts its runs, and says when one begins."""

    class_count = WIDTH

    def __init__(self, data: bytes) -> None:
        super().__init__(data, "g", field="f", multiply_adds_max=10**12)
        self.runs, self.begun = 0, threading.Event()

    def _run(self, session: InferenceSession, rows: NDArray[Any]) -> NDArray[np.float32]:
        self.runs += 1
        self.begun.set()
        return super()._run(session, rows)


@pytest.fixture
def thread() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


async def outcome(task: asyncio.Task[Any], graph: Watched, work: Future[Any]) -> BaseException | None:
    """Cancel ``task`` while ``graph`` runs, and return how its work ended."""
    assert await asyncio.to_thread(graph.begun.wait, PATIENCE_S)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    return await asyncio.to_thread(work.exception, PATIENCE_S)


def recorded(executor: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch) -> list[Future[Any]]:
    """Return a list to which each work that is submitted is added."""
    found, submit = list[Future[Any]](), executor.submit

    def noted(*arguments: Any) -> Future[Any]:
        found.append(submit(*arguments))
        return found[-1]

    monkeypatch.setattr(executor, "submit", noted)
    return found


@pytest.mark.parametrize(("steps", "rows"), [(200, 25_000), (1, 2_000_000)], ids=["steps of a run", "runs"])
async def test_a_cancelled_call_stops_between(
    steps: int, rows: int, thread: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, works = Watched(products(steps)), recorded(thread, monkeypatch)
    samples = np.broadcast_to(np.float32(1), (rows, WIDTH))
    task = asyncio.create_task(stoppable(thread, graph.answers, samples))
    assert await asyncio.wait({task}, timeout=0) == (set(), {task})
    await asyncio.sleep(0)
    assert isinstance(await outcome(task, graph, works[0]), Stopped | Abandoned)  # during a run, or before the next
    assert thread.submit(lambda: "free").result(PATIENCE_S) == "free"


async def test_a_call_that_goes_on_is_not_stopped_by_another(thread: ThreadPoolExecutor) -> None:
    graph = Watched(products(2))
    with ThreadPoolExecutor(1) as other:
        lasting = asyncio.create_task(stoppable(other, graph.answers, np.ones((500, WIDTH), np.float32)))
        left = asyncio.create_task(stoppable(thread, graph.answers, np.ones((500, WIDTH), np.float32)))
        await asyncio.to_thread(graph.begun.wait, PATIENCE_S)
        left.cancel()
        np.testing.assert_allclose(await lasting, 1, rtol=1e-4)


async def test_a_call_without_a_deadline_ends_at_the_servers(thread: ThreadPoolExecutor) -> None:
    model = Model(products(200, "Softmax"), "m", multiply_adds_max=10**12)
    request = pb.ScoreRequest(dtype="float32", images=np.ones((10_000, WIDTH), np.float32).tobytes())
    with pytest.raises(LimitExceeded, match="post fewer") as caught:
        await Scoring(thread, call_s_max=0.01).score(request, model, "m")
    assert caught.value.reason == "SCORING_TOO_LONG"
    assert thread.submit(lambda: "free").result(PATIENCE_S) == "free"


async def test_a_call_whose_deadline_passes_stops_computing(
    thread: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, works = Model(products(200, "Softmax"), "m", multiply_adds_max=10**12), recorded(thread, monkeypatch)

    async def known(digest: str) -> Model:
        return model

    service = ScorerService(
        UNUSED, UNUSED, UNUSED, AsyncCache(known, kept=1), UNUSED, Scoring(thread), UNUSED, 1, UNUSED
    )
    server = grpc.aio.server()
    add_ScorerServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    request = pb.ScoreRequest(
        model_sha256="ab" * 32, dtype="float32", images=np.ones((1_500, WIDTH), np.float32).tobytes()
    )
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ScorerServiceStub(channel).Score(request, timeout=0.5)
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert isinstance(await asyncio.to_thread(works[0].exception, PATIENCE_S), Stopped)
    await server.stop(None)
