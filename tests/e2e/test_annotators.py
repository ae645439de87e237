"""Annotators with several names, and their removal, by command and through the services."""

from __future__ import annotations

import grpc
import pytest
from labelloop.errors import from_rpc
from labelloop.oracle.v1.oracle_pb2 import GetBacklogRequest, ListAnswersRequest
from labelloop_cli.clients import Clients
from labelloop_cli.local.stack import Stack
from labelloop_cli.operations import annotators

from tests.blobs import Blobs
from tests.e2e.test_leases import RUN, begin, lease, say, until


@pytest.fixture(autouse=True)
def found(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands find the services."""
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("trainer", "scorer", "oracle"):
        monkeypatch.setenv(f"LABELLOOP_{name.upper()}", getattr(stack.endpoints, name))


async def test_two_names_of_one_person_are_never_asked_for_one_sample(
    clients: Clients, blobs: Blobs, capsys: pytest.CaptureFixture[str]
) -> None:
    await begin(clients, blobs, annotators=2)
    mine = await lease(clients, "kim", 2)
    await annotators.declare_alias("kim@example.org", "kim", RUN, "boss", all_open=False)
    assert "'kim@example.org' is listed as 'kim'" in capsys.readouterr().out
    other = await lease(clients, "kim@example.org", 2)
    assert [each.request_id for each in other] == [each.request_id for each in await lease(clients, "kim", 2)], "shared"
    assert await say(clients, mine[0], "kim", label=1) == 1
    again = await lease(clients, "kim@example.org", 5)
    assert mine[0].sample_id not in {each.sample_id for each in again}
    await annotators.show_annotators(RUN)
    assert "kim@example.org" in capsys.readouterr().out


async def test_a_label_of_one_person_under_two_names_is_taken_back_once_they_are_known(
    clients: Clients, blobs: Blobs
) -> None:
    await begin(clients, blobs, annotators=2)
    [first] = await lease(clients, "kim")
    await say(clients, first, "kim", label=1)
    [same] = [each for each in await lease(clients, "Kim", 5) if each.sample_id == first.sample_id]
    await say(clients, same, "Kim", label=1)
    await until(clients, lambda backlog: backlog.runs[0].labelled == 1)
    await annotators.declare_alias("Kim", "kim", "", "boss", all_open=True)
    backlog = await until(clients, lambda backlog: backlog.runs[0].labelled == 0 and backlog.runs[0].open == 5)
    assert [(each.annotator, each.answers) for each in backlog.runs[0].annotators] == [("kim", 1)]


@pytest.mark.parametrize("count", [1, 2])
async def test_a_removed_annotator_is_refused_and_what_they_said_is_asked_again(
    clients: Clients, blobs: Blobs, count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    await begin(clients, blobs, annotators=count)
    first, second = await lease(clients, "kim", 2)
    await say(clients, first, "kim", label=1)
    await annotators.remove_annotator("kim", RUN, "boss", withdraw=True, all_open=False)
    assert "'kim' is removed; the 1 answers they gave are withdrawn" in capsys.readouterr().out
    for call in (lease(clients, "kim"), say(clients, second, "kim", label=1)):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call
        error = from_rpc(refused.value)
        assert error
        assert error.reason == "ANNOTATOR_REMOVED"
    await until(clients, lambda backlog: backlog.runs[0].open == 5 and not backlog.runs[0].annotators[0].answers)
    asked = {each.sample_id for each in await lease(clients, "lee", 5)}
    assert {first.sample_id, second.sample_id} <= asked, "what they said, and what they held"
    answers = await clients.oracle.ListAnswers(ListAnswersRequest(run_id=RUN))
    assert [each.WhichOneof("payload") for each in answers.events][-1] in ("answer_given", "label_withdrawn")
    await annotators.restore_annotator("kim", RUN, "boss", all_open=False)
    assert (await clients.oracle.GetBacklog(GetBacklogRequest(run_id=RUN))).runs[0].annotators == []
