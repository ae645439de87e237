"""Requests pushed into an annotation tool and results taken from it, over a real broker; the tool is a list."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from labelloop.domain.ids import LeaseKey
from labelloop.errors import InvalidInput, NotFound
from labelloop.eventlog.projections import RunProjections
from labelloop.events.v1.events_pb2 import Event, RunArchived, RunCancelled
from labelloop.oracle.v1.oracle_pb2 import (
    GetBacklogRequest,
    LabelRequest,
    LabelResult,
    LabelVerdict,
    ResendRequestsRequest,
    Verdict,
)
from labelloop_cli.local.nats.server import NatsServer

from oracle_svc.bootstrap import Oracle
from oracle_svc.domain.backlog import backlog_of
from oracle_svc.domain.labeling_state import LabelingState
from oracle_svc.integrations.base import RecordStatus
from oracle_svc.metrics import dead_letter_gauges, queue_gauges
from oracle_svc.tool_results import replay
from tests.integration.list_tool import ListTool, pumping
from tests.integration.one_oracle import RESEND_S, ask, oracle, slot_key, until
from tests.unused import UNUSED


@pytest.fixture
async def asked(nats_server: NatsServer, tmp_path: Path) -> list[int]:
    """A run that requests labels of three samples from the tool."""
    samples = [7, 3, 5]
    await ask(nats_server, tmp_path, samples)
    return samples


def ids(samples: Sequence[int]) -> list[str]:
    return [f"r/0/{sample_id}/0" for sample_id in samples]


async def test_requests_are_pushed_once_and_in_order_across_oracle_restarts(
    nats_server: NatsServer, tmp_path: Path, asked: list[int]
) -> None:
    tool = ListTool()
    async with oracle(nats_server, tmp_path) as first, pumping(first.dispatcher(tool)):
        await until(lambda: len(tool.pushed) == 3)
        await until(lambda: all(first.leases.holder(slot_key(each)) for each in asked))
    async with (
        oracle(nats_server, tmp_path) as second,
        oracle(nats_server, tmp_path) as third,
        pumping(second.dispatcher(tool), third.dispatcher(tool)),
    ):
        await second.recorder.take([LabelResult(request_id=ids(asked)[0], label=1)], "queue")
        await until(lambda: tool.retracted != [])
    assert tool.pushed == ids(asked)
    assert set(tool.retracted) == {ids(asked)[0]}


async def test_oracles_that_start_at_once_push_each_request_once(nats_server: NatsServer, tmp_path: Path) -> None:
    samples = range(200)
    await ask(nats_server, tmp_path, samples)
    tool = ListTool()
    async with (
        oracle(nats_server, tmp_path) as one,
        oracle(nats_server, tmp_path) as other,
        pumping(one.dispatcher(tool), other.dispatcher(tool)),
    ):
        await until(lambda: {*tool.pushed} == {*ids(samples)})
        await until(lambda: all(each.leases.holder(slot_key(199)) for each in (one, other)))
    assert sorted(tool.pushed) == sorted(ids(samples))


async def test_an_oracle_that_lags_behind_the_log_retracts_no_request_of_another(
    nats_server: NatsServer, tmp_path: Path, asked: list[int]
) -> None:
    tool = ListTool()
    async with oracle(nats_server, tmp_path) as one, oracle(nats_server, tmp_path) as other:
        async with pumping(one.dispatcher(tool)):  # the leases are taken first
            await until(lambda: bool(tool.pushed) and all(other.leases.holder(slot_key(each)) for each in asked))
        recorded = await one.log.read_run("r")
        behind = replace(other, projections=RunProjections(LabelingState.begin))
        for known in recorded[:2]:
            behind.projections.apply(known)

        async def hear_the_rest() -> None:
            for news in recorded[2:]:
                behind.projections.apply(news)

        await asyncio.gather(behind.dispatcher(tool)._supply_runs(), hear_the_rest())
    assert tool.retracted == []
    assert tool.pushed == ids(asked)


async def test_a_request_labelled_while_its_lease_is_taken_is_not_pushed(
    nats_server: NatsServer, tmp_path: Path, asked: list[int]
) -> None:
    tool = ListTool()
    async with oracle(nats_server, tmp_path) as one:
        take = one.leases.take

        async def answered_meanwhile(key: LeaseKey, holder: str, for_s: float) -> float:
            if key == slot_key(3):
                await one.recorder.take([LabelResult(request_id="r/0/3/0", label=1)], "queue:list")
            return await take(key, holder, for_s)

        one.leases.take = answered_meanwhile  # type: ignore[method-assign]
        async with pumping(one.dispatcher(tool)):
            await until(lambda: len(tool.pushed) == 2)
            await until(lambda: not one.leases.holder(slot_key(3)))
    assert tool.pushed == ["r/0/7/0", "r/0/5/0"]
    assert tool.retracted == []


async def test_a_push_over_its_time_limit_is_cancelled_and_retried(
    nats_server: NatsServer, tmp_path: Path, asked: list[int]
) -> None:
    tool = ListTool(stuck=True)
    async with oracle(nats_server, tmp_path) as one, pumping(one.dispatcher(tool, push_within_s=0.5)):
        await until(lambda: len(tool.pushed) == 3)
        tool.stuck = False
        await until(lambda: len(tool.pushed) == 6)


async def test_an_unavailable_tool_gets_all_requests_once_it_is_back(
    nats_server: NatsServer, tmp_path: Path, asked: list[int]
) -> None:
    tool = ListTool(down=True)
    async with oracle(nats_server, tmp_path) as one:
        released = asyncio.Event()
        release = one.leases.release

        async def noted(key: LeaseKey, holder: str) -> bool:
            released.set()
            return await release(key, holder)

        one.leases.release = noted  # type: ignore[method-assign]
        async with pumping(one.dispatcher(tool)):
            async with asyncio.timeout(20):
                await released.wait()
            tool.down = False
            await until(lambda: len(tool.pushed) == 3)
    assert tool.pushed == ids(asked)


async def test_a_tool_that_is_away_is_noted_until_it_takes_requests(
    nats_server: NatsServer, tmp_path: Path, asked: list[int]
) -> None:
    tool = ListTool(down=True)
    async with oracle(nats_server, tmp_path) as one, pumping(one.dispatcher(tool)):
        await until(lambda: bool(one.hold_ups()))
        [away] = one.hold_ups()
        assert (away.service, away.tool, away.direction) == ("oracle", "list", "requests")
        assert away.problem == "the tool is away"
        backlog = await one.service(["list"]).GetBacklog(GetBacklogRequest(), UNUSED)
        assert [each.problem for each in backlog.tools_away] == ["the tool is away"]
        assert [each.tool for each in backlog.runs[0].held_up] == ["list"]
        await until(lambda: len(tool.tries_at_s) > 1)
        assert [each.since for each in one.hold_ups()] == [away.since]
        tool.down = False
        await until(lambda: len(tool.pushed) == 3)
        await until(lambda: not one.hold_ups())


async def test_a_tool_that_is_away_is_not_missed_once_nothing_is_asked_of_it(
    nats_server: NatsServer, tmp_path: Path, asked: list[int]
) -> None:
    tool = ListTool(down=True)
    async with oracle(nats_server, tmp_path) as one, pumping(one.dispatcher(tool)):
        await until(lambda: bool(one.hold_ups()))
        await one.log.append_once(Event(run_id="r", run_cancelled=RunCancelled(reason="enough")))
        await until(lambda: not one.hold_ups())


async def test_no_push_is_retried_before_the_tools_retry_after_has_passed(
    nats_server: NatsServer, tmp_path: Path, asked: list[int]
) -> None:
    tool = ListTool(down=True, retry_after_s=3.0)
    async with oracle(nats_server, tmp_path) as one, pumping(one.dispatcher(tool)):
        await until(lambda: len(tool.tries_at_s) == 1)
        one.projections.notify("r")
        await until(lambda: len(tool.tries_at_s) == 2)
        tool.down, tool.retry_after_s = False, 0.0
        await until(lambda: len(tool.pushed) == 3)
    first_s, second_s, *_ = tool.tries_at_s
    assert second_s - first_s >= 3.0, "of itself it would have come after a second"


async def test_a_refusal_by_the_tool_is_reported_and_blocks_no_other_run(
    nats_server: NatsServer, tmp_path: Path, asked: list[int]
) -> None:
    tool = ListTool(refused={"r"})
    async with oracle(nats_server, tmp_path) as one, pumping(one.dispatcher(tool)):
        labeling = one.projections.get("r")
        await until(lambda: labeling.refusal != "")
        assert backlog_of(labeling, 0).problem == "set LABELLOOP_HTTP_URL"
        assert held_up(one.projections) == ["r"]
        [hold_up] = one.hold_ups()
        assert (hold_up.run_id, hold_up.tool) == ("r", ""), "the tool itself is there"
        assert hold_up.problem == "list does not take its requests: set LABELLOOP_HTTP_URL"
        await start_again(one, "other")
        await until(lambda: len(tool.pushed) == 3)
        assert {each.partition("/")[0] for each in tool.pushed} == {"other"}
        assert not any(one.leases.holder(slot_key(each)) for each in asked), "others may try"
        tool.refused.clear()
        await until(lambda: len(tool.pushed) == 6)
        await until(lambda: labeling.refusal == "")
        assert held_up(one.projections) == []
    assert tool.pushed[3:] == ids(asked)


@pytest.mark.usefixtures("asked")
async def test_a_run_that_is_archived_is_not_tried_again(nats_server: NatsServer, tmp_path: Path) -> None:
    tool = ListTool(refused={"r"})
    async with oracle(nats_server, tmp_path) as one:
        dispatcher = one.dispatcher(tool)
        async with pumping(dispatcher):
            await until(lambda: bool(dispatcher._refused))
            await one.log.append_once(Event(run_id="r", run_cancelled=RunCancelled(reason="enough")))
            facts = RunArchived(archive_sha256="a" * 64, event_count=1, last_sequence=1)
            await one.log.append_once(Event(run_id="r", run_archived=facts))
            await until(lambda: "r" in one.projections.archived and not dispatcher._refused)


def held_up(projections: RunProjections[LabelingState]) -> list[str]:
    [family] = [each for each in queue_gauges(projections) if each.name == "labelloop_run_held_up"]
    return [sample.labels["run"] for sample in family.samples]


async def start_again(one: Oracle, run_id: str) -> None:
    """Append all events of run r for another run, too."""
    for standing in await one.log.read_run("r"):
        assert standing.event
        again = Event.FromString(standing.event.SerializeToString())
        again.run_id = run_id
        recorded = await one.log.append_once(again)
    await one.projections.wait_for(recorded.sequence)


async def test_unconfirmed_pushes_of_a_dead_oracle_are_repeated_when_its_leases_expire(
    nats_server: NatsServer, tmp_path: Path, asked: list[int]
) -> None:
    tool, clock = ListTool(stuck=True), [1_000.0]
    async with oracle(nats_server, tmp_path, lambda: clock[0]) as dying, pumping(dying.dispatcher(tool)):
        await until(lambda: len(tool.pushed) == 3)
    tool.stuck = False
    async with oracle(nats_server, tmp_path, lambda: clock[0]) as next_one:
        await until(lambda: bool(next_one.leases.holder(slot_key(7))))
        clock[0] += 61
        async with pumping(next_one.dispatcher(tool)):
            await until(lambda: len(tool.pushed) == 6)
    assert tool.pushed[3:] == tool.pushed[:3] == ids(asked)


async def test_a_label_given_and_withdrawn_while_no_dispatcher_ran_is_requested_again(
    nats_server: NatsServer, tmp_path: Path, asked: list[int]
) -> None:
    tool = ListTool()
    async with oracle(nats_server, tmp_path) as one:
        async with pumping(one.dispatcher(tool)):
            await until(lambda: all(one.leases.pushes(slot_key(each)) for each in asked))
        said = LabelResult(request_id="r/0/7/0", label=1, annotator="kim")
        withdrawn = LabelResult(request_id="r/0/7/0", withdrawn=True, annotator="kim", revision=1)
        for word in (said, withdrawn):
            assert await one.result_sink("list").take(word) == RecordStatus.RECORDED
        async with pumping(one.dispatcher(tool)):
            await until(lambda: len(tool.pushed) == 4)
        assert (tool.pushed[3], tool.next_revisions) == ("r/0/7/0", [0, 0, 0, 2])
        again = LabelResult(request_id="r/0/7/0", label=2, annotator="kim", revision=2)
        assert await one.result_sink("list").take(again) == RecordStatus.RECORDED


AMISS = LabelResult(request_id="r/0/7/0", class_name="no class", annotator="kim")


async def test_an_invalid_result_is_requested_again_after_growing_pauses(
    nats_server: NatsServer, tmp_path: Path, asked: list[int]
) -> None:
    tool, clock, pauses_s = ListTool(), [1_000.0], []

    def left_s(each: Oracle) -> float:
        return each.leases._held[slot_key(7)].expires_at - clock[0]

    async with (
        oracle(nats_server, tmp_path, lambda: clock[0]) as one,
        oracle(nats_server, tmp_path, lambda: clock[0]) as other,
        pumping(one.dispatcher(tool)),
    ):
        for pushed in range(3, 7):
            await until(lambda: len(tool.pushed) == pushed)  # noqa: B023
            await until(lambda: left_s(one) == 3600)
            assert await other.result_sink("list").take(AMISS) == RecordStatus.REFUSED, "whichever oracle hears it"
            await until(lambda: left_s(one) < 3600)
            pauses_s.append(left_s(one))
            clock[0] += pauses_s[-1]
            one.projections.notify("r")
    assert pauses_s == [2, 4, 8, 16]
    assert tool.pushed[3:6] == ["r/0/7/0"] * 3
    assert sorted({*tool.attempts}) == [0, 1, 2, 3][: len({*tool.attempts})], "another number each time"


async def test_a_second_slot_answered_by_one_person_is_asked_again_soon(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    """One of a tool's few annotators takes both requests of a sample; pauses grow while they keep doing so."""
    await ask(nats_server, tmp_path, [7], annotators=2)
    tool, clock, pauses_s = ListTool(), [1_000.0], []

    async with oracle(nats_server, tmp_path, lambda: clock[0]) as one, pumping(one.dispatcher(tool)):

        def left_s() -> float:
            return one.leases._held[slot_key(7, 1)].expires_at - clock[0]

        await until(lambda: tool.pushed == ["r/0/7/0", "r/0/7/1"])
        sink = one.result_sink("list")
        first, second = (LabelResult(request_id=each, label=1, annotator="kim") for each in tool.pushed)
        assert await sink.take(first) == RecordStatus.RECORDED
        assert await sink.take(first) == RecordStatus.REPEATED
        for pushed in range(2, 5):
            await until(lambda: len(tool.pushed) == pushed and left_s() == 3600)  # noqa: B023
            assert await sink.take(second) == RecordStatus.REFUSED
            await until(lambda: left_s() < 3600)
            pauses_s.append(left_s())
            clock[0] += pauses_s[-1]
            one.projections.notify("r")
        await until(lambda: len(tool.pushed) == 5)
        assert {letter.reason for letter in one.dead_letters.letters.values()} == {"ANSWERED_ALREADY"}
        assert await sink.take(LabelResult(request_id="r/0/7/1", label=1, annotator="lee")) == RecordStatus.RECORDED
        assert len(one.projections.get("r").standing_answers(7)) == 2
    assert tool.pushed[2:] == ["r/0/7/1"] * 3
    assert pauses_s == [2, 4, 8]


async def test_a_contradicting_answer_is_in_the_log_once_and_changes_no_label(
    nats_server: NatsServer, tmp_path: Path, asked: list[int]
) -> None:
    async with oracle(nats_server, tmp_path) as one, oracle(nats_server, tmp_path) as other:
        [request, *_] = ids(asked)
        assert await one.result_sink("list").take(LabelResult(request_id=request, label=1, annotator="kim"))
        words = [LabelResult(request_id=request, label=2, annotator=name) for name in ("lee", "pat")]
        sinks = (one.result_sink("list"), other.result_sink("list"))
        await asyncio.gather(*(sink.take(word) for word in words for sink in sinks))
        late = [each.event.answer_given for each in await one.log.read_run("r") if each.event]
        assert sorted((each.annotator, each.late_label) for each in late if each.sample_id) == [("lee", 2), ("pat", 2)]
        await until(lambda: len(other.projections.get("r").late[7]) == 2)
        for each in (one, other):
            labeling = each.projections.get("r")
            assert labeling.answers.standing[7].label == 1  # type: ignore[union-attr]
            assert backlog_of(labeling, 0).contradicted == 1


async def test_an_invalid_result_before_its_push_is_confirmed_is_requested_again(
    nats_server: NatsServer, tmp_path: Path, asked: list[int]
) -> None:
    class HastyTool(ListTool):
        async def push(self, requests: Sequence[LabelRequest]) -> None:
            await super().push(requests)
            if len(self.pushed) == 3:
                assert await one.result_sink("list").take(AMISS) == RecordStatus.REFUSED

    tool = HastyTool()
    async with oracle(nats_server, tmp_path) as one, pumping(one.dispatcher(tool)):
        await until(lambda: len(tool.pushed) == 4)
    assert tool.pushed[3] == "r/0/7/0"


@pytest.mark.parametrize(
    "data",
    [
        b'{"request_id": "r/0/7/0", "label": "seven"}',
        b'{"request_id": "r/0/7/0", "label": 1, }',
        b'{"type": "label.submitted", "data": {"results": [{"request_id": "r\\/0\\/7\\/0", "label": 1}]}}',
    ],
)
async def test_a_result_that_cannot_be_parsed_is_requested_again_and_its_sender_told_why(
    nats_server: NatsServer, tmp_path: Path, asked: list[int], data: bytes
) -> None:
    tool, clock = ListTool(), [1_000.0]
    async with (
        oracle(nats_server, tmp_path, lambda: clock[0]) as one,
        oracle(nats_server, tmp_path, lambda: clock[0]) as other,
        pumping(one.dispatcher(tool)),
    ):
        await until(lambda: all(other.leases.lease(slot_key(each)).pushed_at for each in asked))
        verdict = await other.result_sink("list").take_json(data)
        assert (verdict.request_id, verdict.run_id, verdict.attempt) == ("r/0/7/0", "r", 0)
        assert (verdict.verdict, bool(verdict.reason), bool(verdict.message)) == (Verdict.VERDICT_REFUSED, True, True)
        clock[0] += 60
        one.projections.notify("r")
        await until(lambda: len(tool.pushed) == 4)
        assert (tool.pushed[3], tool.attempts[3]) == ("r/0/7/0", 1)
        good = b'{"request_id": "r/0/7/0", "label": 0, "annotator": "kim", "source_event_id": "x", "tool_version": 3}'
        await until(lambda: bool(other.leases.lease(slot_key(7)).pushed_at))
        assert [letter.request_id for letter in other.dead_letters.letters.values()] == ["r/0/7/0"]
        verdicts = [await other.result_sink("list").take_json(good) for _ in range(2)]
        assert not other.dead_letters.letters, "a later result replaced it"
    told = LabelVerdict(request_id="r/0/7/0", run_id="r", annotator="kim", attempt=1, source_event_id="x")
    for verdict, word in zip(verdicts, (Verdict.VERDICT_RECORDED, Verdict.VERDICT_REPEATED), strict=True):
        told.verdict = word
        assert verdict == told


async def test_a_retraction_names_the_attempt_and_is_not_sent_to_who_answered(
    nats_server: NatsServer, tmp_path: Path, asked: list[int]
) -> None:
    tool, clock = ListTool(), [1_000.0]
    async with oracle(nats_server, tmp_path, lambda: clock[0]) as one, pumping(one.dispatcher(tool)):
        await until(lambda: all(one.leases.lease(slot_key(each)).pushed_at for each in asked))
        clock[0] += 2 * RESEND_S
        one.projections.notify("r")
        await until(lambda: len(tool.pushed) == 6)
        await until(lambda: all(one.leases.lease(slot_key(each)).pushes == 2 for each in asked))
        await one.result_sink("list").take(LabelResult(request_id="r/0/7/0", label=1))
        await one.recorder.take([LabelResult(request_id="r/0/3/0", label=1)], "queue")
        await until(lambda: not one.leases.holder(slot_key(3)) and not one.leases.holder(slot_key(7)))
    [told] = tool.retractions
    assert (told.request_id, told.run_id, told.attempt, told.next_revision) == ("r/0/3/0", "r", 1, 0)


async def test_a_request_can_be_sent_again_at_once_by_any_oracle(
    nats_server: NatsServer, tmp_path: Path, asked: list[int]
) -> None:
    tool = ListTool()
    async with oracle(nats_server, tmp_path) as one, oracle(nats_server, tmp_path) as other:
        async with pumping(one.dispatcher(tool)):
            await until(lambda: all(other.leases.lease(slot_key(each)).pushed_at for each in asked))
        await one.result_sink("list").take(LabelResult(request_id="r/0/3/0", label=1))
        await other.caught_up()
        service, context = other.service(), UNUSED
        some = await service.ResendRequests(ResendRequestsRequest(run_id="r", sample_ids=[7, 3]), context)
        assert some.resent == 1, "one is answered"
        rest = await service.ResendRequests(ResendRequestsRequest(run_id="r"), context)
        assert rest.resent == 1, "one is to be asked again already"
        for run_id, sample_ids in (("r", [8]), ("r", [7] * 1001), ("none", [])):
            with pytest.raises((InvalidInput, NotFound)):
                await service.ResendRequests(ResendRequestsRequest(run_id=run_id, sample_ids=sample_ids), context)
        async with pumping(other.dispatcher(tool)):
            await until(lambda: len(tool.pushed) == 5)
    assert tool.pushed[3:] == ["r/0/7/0", "r/0/5/0"]
    assert tool.attempts[3:] == [1, 1]


@pytest.mark.parametrize("resend_s", [60.0, 7200.0])
async def test_another_time_to_resend_holds_for_what_is_out_already(
    nats_server: NatsServer, tmp_path: Path, asked: list[int], resend_s: float
) -> None:
    tool, clock = ListTool(), [1_000.0]
    async with oracle(nats_server, tmp_path, lambda: clock[0]) as one, pumping(one.dispatcher(tool)):
        await until(lambda: all(one.leases.lease(slot_key(each)).pushed_at for each in asked))
    async with (
        oracle(nats_server, tmp_path, lambda: clock[0], resend_s) as next_one,
        pumping(next_one.dispatcher(tool)),
    ):
        await until(lambda: all(next_one.leases.holder(slot_key(each)) for each in asked))
        clock[0] += resend_s - 1
        assert all(next_one.leases.holder(slot_key(each)) for each in asked)
        clock[0] += 1
        next_one.projections.notify("r")
        await until(lambda: len(tool.pushed) == 6)


async def test_a_request_that_the_tool_drops_is_sent_again_then(
    nats_server: NatsServer, tmp_path: Path, asked: list[int]
) -> None:
    @dataclass
    class DroppingTool(ListTool):
        kept_s: float = 60.0

    tool, clock = DroppingTool(), [1_000.0]
    async with oracle(nats_server, tmp_path, lambda: clock[0]) as one, pumping(one.dispatcher(tool)):
        await until(lambda: all(one.leases.lease(slot_key(each)).pushed_at for each in asked))
        clock[0] += 59
        assert one.leases.holder(slot_key(7))
        clock[0] += 1
        one.projections.notify("r")
        await until(lambda: len(tool.pushed) == 6)


async def test_results_are_recorded_once_and_invalid_ones_kept_once_as_dead_letters(
    nats_server: NatsServer, tmp_path: Path, asked: list[int]
) -> None:
    first, second, _ = ids(asked)
    async with oracle(nats_server, tmp_path) as one, oracle(nats_server, tmp_path) as other:
        said = LabelResult(request_id=first, class_name="b", annotator="kim")
        both = await asyncio.gather(one.result_sink("list").take(said), other.result_sink("list").take(said))
        assert sorted(status.value for status in both) == ["recorded", "repeated"]
        bad = [
            b'{"request_id": "r/0/3/0", "class_name": "d"}',
            b'{"request_id": "r/0/299/0", "label": 1}',
            b'{"request_id": "nobody/0/3/0", "label": 1}',
            b"{",
            b"\xff\xfe",
            b'{"request_id": "r/0/3/0"}',
        ]
        for data in (*bad, *bad):
            for each in (one, other):
                assert (await each.result_sink("list").take_json(data)).verdict == Verdict.VERDICT_REFUSED
        await until(lambda: len(other.dead_letters.letters) == len(bad))
        assert {letter.data for letter in other.dead_letters.letters.values()} == set(bad)
        assert {letter.reason for letter in other.dead_letters.letters.values()} == {
            *("UNKNOWN_CLASS", "NOT_ASKED_FOR", "UNKNOWN_RUN", "MALFORMED", "NO_ANSWER")
        }
        taken = await one.result_sink("list").take_json(b'{"request_id": "%s", "label": 0}' % second.encode())
        assert taken.verdict == Verdict.VERDICT_RECORDED
        standing = one.projections.get("r").answers.standing
        assert {key: outcome.label for key, outcome in standing.items()} == {7: 1, 3: 0}  # type: ignore[union-attr]


async def test_a_dead_letter_whose_replay_succeeds_is_removed_for_good(
    nats_server: NatsServer, tmp_path: Path, asked: list[int]
) -> None:
    early = b'{"request_id": "later/0/3", "label": 1}'
    async with oracle(nats_server, tmp_path) as one:
        assert (await one.result_sink("list").take_json(early)).verdict == Verdict.VERDICT_REFUSED
        [letter] = one.dead_letters.letters.values()
        assert await replay(letter, one.recorder, one.dead_letters)
        await start_again(one, "later")
        assert await replay(letter, one.recorder, one.dead_letters) is None
        assert not one.dead_letters.letters
        assert one.projections.get("later").answers.standing
    async with oracle(nats_server, tmp_path) as next_one:
        await until(lambda: letter.id in next_one.dead_letters._done)
        assert not next_one.dead_letters.letters


async def test_dead_letters_are_counted_by_tool_until_a_replay_records_them(
    nats_server: NatsServer, tmp_path: Path, asked: list[int]
) -> None:
    def waiting(each: Oracle) -> dict[str, float]:
        [family] = dead_letter_gauges(each.dead_letters, ["nats", "list"])
        return {sample.labels["tool"]: sample.value for sample in family.samples}

    async with oracle(nats_server, tmp_path) as one, oracle(nats_server, tmp_path) as other:
        assert waiting(one) == {"nats": 0, "list": 0}
        gone = one.result_sink("sqs")
        for number in range(2):
            await one.result_sink("list").take_json(b'{"request_id": "later/0/%d", "label": 1}' % asked[number])
            await gone.take_json(b"{")
        assert waiting(one) == {"nats": 0, "list": 2, "sqs": 1}
        await until(lambda: waiting(other) == waiting(one))
        await start_again(one, "later")
        letter = next(each for each in one.dead_letters.letters.values() if each.source == "queue:list")
        assert await replay(letter, one.recorder, one.dead_letters) is None
        assert waiting(one) == {"nats": 0, "list": 1, "sqs": 1}
        await until(lambda: waiting(other) == waiting(one))


async def test_leases_older_than_the_streams_retention_are_dropped_from_memory(
    nats_server: NatsServer, tmp_path: Path, asked: list[int]
) -> None:
    clock, day_s = [1_000.0], 24 * 3600
    async with oracle(nats_server, tmp_path, lambda: clock[0]) as one:
        for number in range(5):
            assert await one.leases.take(slot_key(number), "a", 60)
        assert await one.leases.release(slot_key(0), "a")
        clock[0] += 13 * day_s
        assert await one.leases.take(slot_key(1), "b", 60), "it ended, and is remembered"
        clock[0] += 2 * day_s
        assert await one.leases.take(slot_key(9), "a", 60)
        assert [*one.leases._held] == [slot_key(1), slot_key(9)]
        assert [one.leases.held_by(holder, "r") for holder in "ab"] == [[slot_key(9)], []]
        assert len(one.leases._keys) == 4, "two holders and two samples"


async def test_leases_can_be_taken_and_released_after_the_broker_restarted(
    nats_server: NatsServer, tmp_path: Path, asked: list[int]
) -> None:
    """Leases that were overwritten in the stream are no sign that it was rolled back."""
    async with oracle(nats_server, tmp_path) as one:
        for holder in ("a", "a", "a"):
            assert await one.leases.take(slot_key(1), holder, 60)
        await nats_server.stop()
        await nats_server.start()
        one.leases._rollback_guard.suspect = True
        await one.leases._rollback_guard.check()
        assert await one.leases.take(slot_key(1), "b", 60) == 0.0
        assert await one.leases.release(slot_key(1), "a")
        assert await one.leases.take(slot_key(1), "b", 60)
