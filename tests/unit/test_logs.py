"""Structured logs: context fields and lost lines."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
import structlog
from labelloop.domain.run_log import RunLog
from labelloop.domain.run_owners import RunOwners
from labelloop.errors import WrongState
from labelloop.eventlog.log import Recorded
from labelloop.eventlog.projections import RunProjections
from labelloop.eventlog.reconciler import reconcile
from labelloop.events.v1.events_pb2 import Event, RunStarted
from labelloop.observability import metrics
from labelloop.observability.logs import set_up_logs
from labelloop.oracle.v1.oracle_pb2 import SubmitLabelsRequest, SubmitLabelsResponse
from labelloop.rpc.call_metrics import CallCounts
from labelloop.rpc.handlers import guarded

from tests.blobs import Blobs, spec, write_blobs
from tests.patience import PATIENCE_S

log = structlog.get_logger()


def counted(metric: str) -> float:
    return metrics.OURS.get_sample_value(metric) or 0.0


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Iterator[Any]:
    """Yield a function that returns the lines since its last call."""
    handlers = logging.getLogger().handlers.copy()
    set_up_logs("trainer", "json", "info")
    yield lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    structlog.reset_defaults()
    logging.getLogger().handlers = handlers


def test_a_line_that_cannot_be_written_is_counted_and_not_raised(lines: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = counted("labelloop_log_lines_lost_total")
    closed = io.StringIO()
    closed.close()
    with suppress(OSError), Path("/dev/full").open("w") as full:  # raises on close that it is full
        for unwritable in (closed, full):
            with monkeypatch.context() as patched:
                patched.setattr("sys.stderr", unwritable)
                log.warning("broker_disconnected")
    assert counted("labelloop_log_lines_lost_total") == before + 2
    log.warning("broker_reconnected")
    assert [line["event"] for line in lines()] == ["broker_reconnected"]


def test_repeated_set_up_does_not_duplicate_lines_of_libraries(lines: Any) -> None:
    set_up_logs("trainer", "json", "info")
    logging.getLogger("grpc").warning("said once")
    assert [line["event"] for line in lines()] == ["said once"]


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return write_blobs(tmp_path)


class Run:
    def __init__(self) -> None:
        self.round, self.over, self.run_log = 3, False, RunLog(RunStarted())

    def apply(self, event: Event, at: datetime) -> None: ...


async def test_every_log_line_of_a_reconciled_run_has_its_run_and_round(lines: Any, blobs: Blobs) -> None:
    projections: RunProjections[Run] = RunProjections(lambda event, at: Run())
    for number in (1, 2):
        started = Event(run_id=f"run{number}", round=0, run_started=RunStarted(spec=spec(blobs)))
        projections.apply(Recorded(started, number))
    problem = asyncio.Event()

    async def advance(run_id: str) -> None:
        await asyncio.sleep(0)  # so that both runs overlap
        log.info("at work")
        if run_id == "run1":
            problem.set()
            raise WrongState("NOT_SO", "it cannot be")

    driving = asyncio.create_task(reconcile(projections, advance, RunOwners()))
    async with asyncio.timeout(PATIENCE_S):
        await problem.wait()
    driving.cancel()
    await asyncio.wait([driving])
    said = [(line["event"], line["run"], line["round"], line["service"]) for line in lines()]
    assert sorted(said) == [
        ("at work", "run1", 3, "trainer"),
        ("at work", "run2", 3, "trainer"),
        ("run_held_up", "run1", 3, "trainer"),
    ]
    assert projections.held_up() == ["run1"]


async def submit(request: SubmitLabelsRequest, context: Any) -> SubmitLabelsResponse:
    log.info("at work")
    if request.annotator == "nobody":
        raise ZeroDivisionError
    return SubmitLabelsResponse()


def served(server: grpc.aio.Server) -> int:
    """Serve ``submit``; return the port."""
    encode: Any = SubmitLabelsResponse.SerializeToString
    handler = grpc.unary_unary_rpc_method_handler(submit, SubmitLabelsRequest.FromString, encode)
    registrar: Any = guarded(server, CallCounts())
    registrar.add_registered_method_handlers("labelloop.Test", {"Submit": handler})
    return server.add_insecure_port("127.0.0.1:0")


async def test_every_log_line_of_a_call_has_its_method_and_run(lines: Any) -> None:
    server = grpc.aio.server()
    port = served(server)
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            call: Any = channel.unary_unary("/labelloop.Test/Submit")
            for run_id in ("one", ""):
                await call(SubmitLabelsRequest(run_id=run_id).SerializeToString())
            with pytest.raises(grpc.aio.AioRpcError, match="UNKNOWN"):
                await call(SubmitLabelsRequest(run_id="two", annotator="nobody").SerializeToString())
    finally:
        await server.stop(None)
    said = lines()
    ours = [(line.get("method"), line.get("run")) for line in said if line["event"] == "at work"]
    assert ours == [("Submit", "one"), ("Submit", None), ("Submit", "two")]
    [fault] = [line for line in said if "exception" in line]
    assert (fault["method"], fault["run"], fault["level"]) == ("Submit", "two", "error")
    assert "ZeroDivisionError" in fault["exception"]
