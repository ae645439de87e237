"""Leases of one sample over a real broker: a person and a tool do not hold it at once, and pushes count once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import pytest
from labelloop.domain.ids import LeaseKey, RequestId
from labelloop.oracle.v1.oracle_pb2 import LabelRequest
from labelloop_cli.local.nats.server import NatsServer

from oracle_svc.bootstrap import Oracle
from oracle_svc.leases import PREFIX
from oracle_svc.request_dispenser import person, tool_holder
from tests.integration.list_tool import ListTool, pumping
from tests.integration.one_oracle import ask, oracle, slot_key, until

SAMPLES = [7, 3, 5]


class WholeTool(ListTool):
    """A tool that distributes samples to its annotators itself."""

    whole_samples: ClassVar[bool] = True


@pytest.fixture(params=[ListTool, WholeTool])
async def tool(request: pytest.FixtureRequest, nats_server: NatsServer, tmp_path: Path) -> ListTool:
    """The tool of a run that requests three samples."""
    await ask(nats_server, tmp_path, SAMPLES)
    made: ListTool = request.param()
    return made


async def given(one: Oracle, annotator: str, count: int = 10) -> list[LabelRequest]:
    return await one.dispenser.lease([one.projections.get("r")], annotator, count, 600)


def samples(request_ids: Sequence[str]) -> list[int]:
    return [RequestId.parse(each).sample_id for each in request_ids]


def held(one: Oracle, holder: str) -> list[int]:
    return [key.request.sample_id for key in one.leases.held_by(holder, "r")]


async def test_a_person_gets_no_request_leased_to_a_tool_at_another_oracle(
    nats_server: NatsServer, tmp_path: Path, tool: ListTool
) -> None:
    async with oracle(nats_server, tmp_path) as one, oracle(nats_server, tmp_path) as other:
        async with pumping(one.dispatcher(tool)):
            await until(lambda: sorted(held(other, tool_holder("list"))) == sorted(SAMPLES))
            assert await given(other, "kim") == []
            await until(lambda: len(tool.pushed) == len(SAMPLES))
        assert samples(tool.pushed) == SAMPLES


async def test_a_tool_gets_no_request_leased_to_a_person_at_another_oracle(
    nats_server: NatsServer, tmp_path: Path, tool: ListTool
) -> None:
    async with oracle(nats_server, tmp_path) as one, oracle(nats_server, tmp_path) as other:
        [request] = await given(other, "kim", 1)
        await until(lambda: held(one, person("kim")) == [request.sample_id])
        async with pumping(one.dispatcher(tool)):
            await until(lambda: len(tool.pushed) == 2)
            assert samples(tool.pushed) == [3, 5]
            assert await other.dispenser.release("kim", [request.request_id]) == 1
            await until(lambda: held(one, person("kim")) == [])
            one.projections.notify("r")
            await until(lambda: len(tool.pushed) == 3)
        assert samples(tool.pushed) == [3, 5, 7]


async def test_tabs_of_one_person_at_several_oracles_share_their_leases(
    nats_server: NatsServer, tmp_path: Path, tool: ListTool
) -> None:
    async with oracle(nats_server, tmp_path) as one, oracle(nats_server, tmp_path) as other:
        tabs = await asyncio.gather(*(given(each, "kim", 2) for each in (one, other, one, other)))
        assert [{request.sample_id for request in requests} for requests in tabs] == [{7, 3}] * 4


async def test_leases_of_other_releases_are_read_and_unknown_forms_ignored(
    nats_server: NatsServer, tmp_path: Path, tool: ListTool
) -> None:
    """Other releases write them during a rolling update."""
    async with oracle(nats_server, tmp_path) as one:
        lease = b'{"holder": "tool:list", "expires_at": 9e9, "pushes": 3}'
        await one.leases._js.publish(f"{PREFIX}.of.another.form", lease)
        await one.leases._js.publish(f"{PREFIX}.r.0.3.0", lease)
        await until(lambda: held(one, "tool:list") == [3])
        assert one.leases.pushes(slot_key(3)) == 3
        assert [request.sample_id for request in await given(one, "kim")] == [7, 5]


@pytest.mark.parametrize("confirmed_first", [True, False])
async def test_a_push_counts_once_if_refused_before_or_after_it_is_confirmed(
    nats_server: NatsServer, tmp_path: Path, confirmed_first: bool
) -> None:
    key: LeaseKey = slot_key(3)
    async with oracle(nats_server, tmp_path) as one:
        for attempt in range(3):
            assert one.leases.pushes(key) == attempt
            until_s = await one.leases.take(key, "tool:list", 30)
            if confirmed_first:
                await one.leases.confirm(key, "tool:list", until_s)
            await one.leases.shorten(key, "tool:list", 2)
            await one.leases.shorten(key, "tool:list", 1)
            await one.leases.confirm(key, "tool:list", until_s)
            assert await one.leases.release(key, "tool:list")
