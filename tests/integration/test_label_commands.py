"""`labelloop label ...` as operators see it, against an oracle that heard odd things."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from labelloop.oracle.v1.oracle_pb2 import LabelResult, LeaseNextRequest
from labelloop.oracle.v1.oracle_pb2_grpc import add_OracleServiceServicer_to_server
from labelloop_cli import backlog, label
from labelloop_cli.clients import Endpoints, connect
from labelloop_cli.nats_server import NatsServer

from oracle_svc.service import OracleService
from oracle_svc.shelf import Shelf
from tests.integration.one_oracle import Oracle, ask, oracle

ODD = "[/x] :cat: [bold]"


@pytest.fixture
async def one(nats_server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Oracle]:
    """An oracle that the commands find, with run r that asks for samples 7, 3 and 5."""
    await ask(nats_server, tmp_path, [7, 3, 5])
    monkeypatch.setenv("COLUMNS", "200")
    async with oracle(nats_server, tmp_path) as one:
        server = grpc.aio.server()
        shelf = Shelf(None, tmp_path)
        service = OracleService(one.book, one.log, shelf, one.clerk, one.counter, one.dead_letters)
        add_OracleServiceServicer_to_server(service, server)
        monkeypatch.setenv("LABELLOOP_ORACLE", f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
        await server.start()
        try:
            yield one
        finally:
            await server.stop(None)


async def test_an_operator_may_withdraw_what_another_said(one: Oracle) -> None:
    await one.intake.take(LabelResult(request_id="r/0/7/0", label=1, annotator="kim"))
    await asyncio.to_thread(label.withdraw, "r", [7], "boss")
    assert 7 in one.book.get("r").open
    assert one.book.get("r").answers.standing[7].annotator == "boss"


async def test_people_are_not_given_what_a_tool_is_to_label_but_where_they_name_the_run(one: Oracle) -> None:
    async with connect(Endpoints()) as clients:
        anything = await clients.oracle.LeaseNext(LeaseNextRequest(annotator="kim", count=3))
        assert not anything.requests, "the run is labelled in a tool"
        named = await clients.oracle.LeaseNext(LeaseNextRequest(annotator="kim", count=3, run_id="r"))
        assert len(named.requests) == 3


async def test_odd_names_are_shown_as_they_are(one: Oracle, capsys: pytest.CaptureFixture[str]) -> None:
    await one.intake.take(LabelResult(request_id="r/0/7/0", class_name=ODD, annotator="kim"))
    await one.intake.take(LabelResult(request_id="r/0/3/0", label=1, annotator=ODD))
    await backlog._dead()
    assert capsys.readouterr().out.count(ODD) == 2, "in the message, and in what came"
    await backlog._replay([])
    assert capsys.readouterr().out.count(ODD) == 1
    await backlog._backlog("")
    assert ODD in capsys.readouterr().out
