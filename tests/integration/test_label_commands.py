"""`labelloop label ...` for operators, and the oracle's dead letters."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from labelloop.domain.hold_ups import HoldUp
from labelloop.errors import InvalidInput, NotFound
from labelloop.eventlog.connection import connect as connect_broker
from labelloop.eventlog.connection import jetstream
from labelloop.events.v1.events_pb2 import Event, FeatureKind, RunCancelled, RunSpec, RunStarted
from labelloop.oracle.v1.oracle_pb2 import (
    ClassAlias,
    DiscardDeadLettersRequest,
    LabelResult,
    LeaseNextRequest,
    ListDeadLettersRequest,
    ReplayDeadLettersRequest,
)
from labelloop.oracle.v1.oracle_pb2_grpc import add_OracleServiceServicer_to_server
from labelloop.rpc.call_metrics import CallCounts
from labelloop.rpc.handlers import guarded
from labelloop_cli.clients import Endpoints, connect
from labelloop_cli.local.nats.server import NatsServer
from labelloop_cli.operations import backlog, label, open_samples
from nats.js.api import DiscardPolicy, StreamConfig

from oracle_svc.bootstrap import Oracle
from oracle_svc.dead_letters import PREFIX, STREAM, DeadLetters
from oracle_svc.integrations.base import RecordStatus
from tests.integration.list_tool import ListTool, pumping
from tests.integration.one_oracle import ask, oracle, slot_key, until
from tests.unused import UNUSED

ODD = "[/x] :cat: [bold]"


@pytest.fixture
async def one(nats_server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Oracle]:
    """An oracle that the commands find, with run r that requests samples 7, 3 and 5."""
    await ask(nats_server, tmp_path, [7, 3, 5])
    monkeypatch.setenv("COLUMNS", "200")
    async with oracle(nats_server, tmp_path) as one:
        server = grpc.aio.server()
        add_OracleServiceServicer_to_server(one.service(), guarded(server, CallCounts()))
        monkeypatch.setenv("LABELLOOP_ORACLE", f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
        await server.start()
        try:
            yield one
        finally:
            await server.stop(None)


async def test_an_operator_can_withdraw_another_annotators_label(one: Oracle) -> None:
    await one.result_sink("list").take(LabelResult(request_id="r/0/7/0", label=1, annotator="kim"))
    await label.withdraw("r", ["7"], "boss")
    assert 7 in one.projections.get("r").open
    assert one.projections.get("r").answers.standing[7].annotator == "boss"


async def test_people_lease_requests_of_a_tools_run_only_if_they_name_the_run(one: Oracle) -> None:
    async with connect(Endpoints()) as clients:
        anything = await clients.oracle.LeaseNext(LeaseNextRequest(annotator="kim", count=3))
        assert not anything.requests, "the run is labelled in a tool"
        named = await clients.oracle.LeaseNext(LeaseNextRequest(annotator="kim", count=3, run_id="r"))
        assert len(named.requests) == 3


async def test_an_operator_can_have_the_tool_asked_again(one: Oracle, capsys: pytest.CaptureFixture[str]) -> None:
    tool = ListTool()
    async with pumping(one.dispatcher(tool)):
        await until(lambda: all(one.leases.lease(slot_key(each)).pushed_at for each in (7, 3, 5)))
        await label.resend("r", ["3"])
        await until(lambda: len(tool.pushed) == 4)
        await until(lambda: all(one.leases.lease(slot_key(each)).pushed_at for each in (7, 3, 5)))
        await label.resend("r", [])
        await until(lambda: len(tool.pushed) == 7)
    assert tool.pushed[3] == "r/0/3/0"
    assert tool.pushed[4:] == ["r/0/7/0", "r/0/3/0", "r/0/5/0"]
    assert capsys.readouterr().out == "1 requests are asked again\n3 requests are asked again\n"
    with pytest.raises((InvalidInput, NotFound)):
        await label.resend("r", ["no such sample"])


async def test_names_that_look_like_markup_are_shown_as_is(one: Oracle, capsys: pytest.CaptureFixture[str]) -> None:
    await one.result_sink("list").take(LabelResult(request_id="r/0/7/0", class_name=ODD, annotator="kim"))
    await one.result_sink("list").take(LabelResult(request_id="r/0/3/0", label=1, annotator=ODD))
    await backlog.show_dead("")
    assert capsys.readouterr().out.count(ODD) == 2, "in the message, and in what came"
    await backlog.replay_dead([], "", [])
    assert capsys.readouterr().out.count(ODD) == 1
    await backlog.show_backlog("")
    assert ODD in capsys.readouterr().out


async def test_the_backlog_names_tools_that_are_away_and_what_holds_up_runs(
    one: Oracle, capsys: pytest.CaptureFixture[str]
) -> None:
    one.tool_states.note("list", "results", "the token is refused")
    one.projections.set_problem("r", "the disk is full")
    one.projections.hold_ups.hear("trainer", "t", [HoldUp("trainer", "no scorer answers", 60.0, "r")])
    await backlog.show_backlog("")
    said = capsys.readouterr().out
    assert re.search(r"^list is away \(results\) since [0-9-]+ [0-9:]+ UTC: the token is refused$", said, re.MULTILINE)
    assert "r is held up since 1970-01-01 00:01 UTC, the trainer: no scorer answers" in said
    assert "UTC, the oracle: the disk is full" in said
    one.tool_states.note("list", "results")
    one.projections.set_problem("r", "")
    one.projections.hold_ups.hear("trainer", "t", [])
    await backlog.show_backlog("r")
    said = capsys.readouterr().out
    assert "away" not in said
    assert "held up" not in said


async def test_a_run_that_asks_for_nothing_yet_says_what_is_done_instead(
    one: Oracle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = RunSpec()
    spec.CopyFrom(one.projections.get("r").spec)
    spec.features = FeatureKind.FEATURE_KIND_PATCHES
    recorded = await one.log.append_once(Event(run_id="new", run_started=RunStarted(spec=spec)))
    await one.projections.wait_for(recorded.sequence)
    await backlog.show_backlog("new")
    assert "new: the pool is being read and stored" in capsys.readouterr().out
    pool = one.projections.get("r").pool
    recorded = await one.log.append_once(Event(run_id="new", pool_published=pool))
    await one.projections.wait_for(recorded.sequence)
    await open_samples.open_("new", tmp_path / "open.csv", None)
    said = capsys.readouterr().out
    assert "no sample waits for a label yet; new: features are being learned from the pool" in said


async def test_a_run_that_asks_for_nothing_has_no_samples_to_fill_in(
    one: Oracle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded = await one.log.append_once(Event(run_id="r", run_cancelled=RunCancelled(reason="enough")))
    await one.projections.wait_for(recorded.sequence)
    await open_samples.open_("r", tmp_path / "open.csv", None)
    assert capsys.readouterr().out == "no sample waits for a label\n"


async def send(one: Oracle, run_id: str, count: int) -> None:
    for number in range(count):
        await one.result_sink("list").take(LabelResult(request_id=f"{run_id}/0/{number}/0", label=1))


async def test_dead_letters_are_shown_newest_first_and_at_most_100_without_all(
    one: Oracle, capsys: pytest.CaptureFixture[str]
) -> None:
    await send(one, "gone", 120)
    await send(one, "lost", 3)
    for run_id, all_, first, shown, told in (
        ("", False, "lost/0/2/0", 100, "100 of 123 (--all shows them all) dead letters"),
        ("", True, "lost/0/2/0", 123, "123 dead letters"),
        ("gone", True, "gone/0/119/0", 120, "120 dead letters"),
        ("lost", False, "lost/0/2/0", 3, "3 dead letters"),
    ):
        await backlog.show_dead(run_id, all_=all_)
        said = capsys.readouterr().out
        found = re.findall(r'"request_id": "(.*?)"', said)
        assert (found[0], len({*found})) == (first, shown)
        assert told in said


async def test_discarded_dead_letters_are_not_listed_by_any_oracle(
    one: Oracle, nats_server: NatsServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await send(one, "gone", 3)
    first, second, third = one.dead_letters.letters
    request = DiscardDeadLettersRequest(ids=[first, "no such letter"])
    with pytest.raises(NotFound, match="no such letter"):
        await one.service().DiscardDeadLetters(request, UNUSED)
    assert [*one.dead_letters.letters] == [first, second, third]
    await backlog.discard_dead([first, third])
    assert "2 dead letters put aside" in capsys.readouterr().out
    assert [*one.dead_letters.letters] == [second]
    await send(one, "gone", 1)
    assert [*one.dead_letters.letters] == [second], "what was put aside is no news"
    async with oracle(nats_server, tmp_path) as next_one:
        await until(lambda: third in next_one.dead_letters._done)
        assert [*next_one.dead_letters.letters] == [second]


async def test_an_existing_dead_letter_stream_without_a_limit_gets_one(nats_server: NatsServer) -> None:
    client = await connect_broker(nats_server.url, "test")
    js = jetstream(client)
    await js.add_stream(StreamConfig(name=STREAM, subjects=[f"{PREFIX}.>"]))
    await DeadLetters(client).ensure_stream()
    config = (await js.stream_info(STREAM)).config
    assert (config.max_bytes, config.discard) == (64 * 1024 * 1024, DiscardPolicy.OLD)
    await client.close()


async def test_the_oldest_dead_letters_are_dropped_from_memory_at_the_limit(nats_server: NatsServer) -> None:
    client = await connect_broker(nats_server.url, "test")
    letters = DeadLetters(client, bytes_max=3_000)
    await letters.ensure_stream()
    for number in range(20):
        await letters.keep("tool", f"gone/0/{number}/0".encode(), InvalidInput("BAD", "no " * 100))
    left = [letter.data for letter in letters.letters.values()]
    assert 2 <= len(left) < 10
    assert b"gone/0/19/0" in left[-1]
    await client.close()


async def test_a_page_can_only_begin_after_a_dead_letter_of_the_same_run(one: Oracle, tmp_path: Path) -> None:
    await send(one, "gone", 1)
    await send(one, "lost", 1)
    [gone] = [letter.id for letter in one.dead_letters.letters.values() if b"gone/" in letter.data]
    request = ListDeadLettersRequest(run_id="lost", after_id=gone)
    with pytest.raises(NotFound, match="there is no dead letter"):
        await one.service().ListDeadLetters(request, UNUSED)


async def test_backlog_and_dead_letters_of_a_run_are_its_own(one: Oracle, capsys: pytest.CaptureFixture[str]) -> None:
    await send(one, "gone", 5)
    await one.result_sink("list").take(LabelResult(request_id="r/0/7/0", class_name="wasp", annotator="kim"))
    await backlog.show_backlog("r")
    said = capsys.readouterr().out
    assert "1 results for r could not be taken: see `labelloop label dead r`" in said
    assert "5" not in said.partition("could not be taken")[2]
    await backlog.show_backlog("")
    assert "5 results for no run listed here could not be taken" in capsys.readouterr().out
    await backlog.show_dead("r")
    assert "1 dead letters" in capsys.readouterr().out


async def test_letters_with_an_unknown_class_are_replayed_as_the_class_that_is_meant(
    one: Oracle, capsys: pytest.CaptureFixture[str]
) -> None:
    sink = one.result_sink("list")
    await sink.take(LabelResult(request_id="r/0/7/0", class_name="bee", annotator="kim"))
    await sink.take(LabelResult(request_id="r/0/3/0", class_name="wasp", annotator="kim"))
    await send(one, "gone", 1)
    await backlog.replay_dead([], "", [" bee = nothing"])
    assert "'nothing' of sample 7 is none of the classes" in " ".join(capsys.readouterr().out.split())
    await backlog.replay_dead([], "r", ["bee=b", "fly=c"])
    assert "1 dead letters taken" in capsys.readouterr().out
    assert one.projections.get("r").answers.standing[7].label == 1  # type: ignore[union-attr]
    assert len(one.dead_letters.letters) == 2


async def test_an_alias_does_not_change_letters_that_were_refused_for_another_reason(one: Oracle) -> None:
    await one.result_sink("list").take(LabelResult(request_id="r/1/7/0", class_name="b", annotator="kim"))
    aliases = [ClassAlias(name="b", class_name="c")]
    await one.service().ReplayDeadLetters(ReplayDeadLettersRequest(class_aliases=aliases), UNUSED)
    assert [letter.reason for letter in one.dead_letters.letters.values()] == ["NOT_ASKED_FOR"]
    assert not one.projections.get("r").answers.standing


@pytest.mark.parametrize("text", ["bee", "=b", "bee=", "a=b=c"])
async def test_an_alias_that_names_no_two_classes_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="NEW=OLD"):
        await backlog.replay_dead([], "", [text])


async def test_too_many_aliases_are_refused(one: Oracle) -> None:
    request = ReplayDeadLettersRequest(class_aliases=[ClassAlias(name="a", class_name="b")] * 101)
    with pytest.raises(InvalidInput, match="at most 100"):
        await one.service().ReplayDeadLetters(request, UNUSED)


async def test_a_later_result_ends_the_letters_that_it_replaces(one: Oracle) -> None:
    sink = one.result_sink("list")
    for annotator in ("kim", "lee"):
        await sink.take(LabelResult(request_id="r/0/7/0", class_name="wasp", annotator=annotator))
    await sink.take(LabelResult(request_id="r/0/3/0", class_name="wasp", annotator="kim"))
    await sink.take(LabelResult(request_id="r/0/7/0", class_name="b", annotator="kim"))
    assert [b"r/0/3/0" in letter.data for letter in one.dead_letters.letters.values()] == [True]
    await label.skip("r", ["3"], "boss", "", rejected=False)
    assert not one.dead_letters.letters


async def test_held_withdrawals_are_shown_and_withdrawn_once_accepted(
    one: Oracle, capsys: pytest.CaptureFixture[str]
) -> None:
    await backlog.accept_withdrawals("r", None)
    assert "no withdrawals wait" in capsys.readouterr().out
    labeling = one.projections.get("r")
    for sample in (7, 3):
        await one.result_sink("list").take(LabelResult(request_id=f"r/0/{sample}/0", label=1, annotator="kim"))
    labeling.held = [
        LabelResult(request_id=f"r/0/{sample}/0", withdrawn=True, annotator="kim", revision=1) for sample in (7, 3)
    ]
    labeling.notices = ["the tool lacks 'b'"]
    await backlog.show_backlog("r")
    said = capsys.readouterr().out
    assert "2 results of r are no longer in list and still count" in said
    assert "the tool lacks 'b'" in said
    assert said.count("still count") == 1
    assert {each.problem.partition(":")[0] for each in one.hold_ups()} == {
        "list",
        "2 results of r are no longer in list and still count",
    }
    await backlog.accept_withdrawals("r", lambda count: count != 2)
    said = capsys.readouterr().out
    assert "2 of the 2 results that stand are no longer in the tool" in said
    assert "nothing was withdrawn" in said
    await backlog.accept_withdrawals("r", lambda count: count == 2)
    assert "2 results withdrawn" in capsys.readouterr().out
    assert {*labeling.open} == {7, 3, 5}


async def test_a_repeated_result_ends_letters_that_a_process_left_when_it_ended(one: Oracle) -> None:
    sink, right = one.result_sink("list"), LabelResult(request_id="r/0/7/0", label=1, annotator="kim")
    await sink.take(LabelResult(request_id="r/0/7/0", class_name="wasp", annotator="kim"))
    await one.recorder.take([right], "queue:list")
    assert len(one.dead_letters.letters) == 1
    assert await sink.take(right) is RecordStatus.REPEATED
    assert not one.dead_letters.letters
