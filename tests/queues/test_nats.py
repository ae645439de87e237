"""Requests and results on the broker itself."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from labelloop.wire.broker import connect, jetstream
from labelloop.wire.errors import LimitExceeded
from labelloop_cli.nats_server import NatsServer
from nats.aio.client import Client

from oracle_svc.queues.subjects import STREAM, Subjects
from tests.queues.fake_intake import FakeIntake
from tests.queues.message_contract import MessageQueueContract, come, eventually, ids, requests, serving
from tests.queues.nats_tool import NatsTool, nats_tool


@pytest.fixture
async def client(nats_server: NatsServer) -> AsyncIterator[Client]:
    client = await connect(nats_server.url, "oracle")
    yield client
    await client.close()


@pytest.fixture
async def queue(client: Client) -> Subjects:
    """With its stream: results can be published once an oracle has been there."""
    queue = Subjects(client)
    await queue.push([])
    return queue


@pytest.fixture
async def tool(nats_server: NatsServer) -> AsyncIterator[NatsTool]:
    async with nats_tool(nats_server) as tool:
        yield tool


class TestSubjects(MessageQueueContract):
    large_pixels, takes_large = 1200, False

    async def test_a_request_stands_once_however_often_it_is_pushed(self, queue: Subjects, tool: NatsTool) -> None:
        asked = requests(5)
        await queue.push(asked[:3])
        await tool.go_down()
        await tool.come_back()
        await asyncio.gather(queue.push(asked), queue.push(asked))
        found = await come(tool, 5)
        assert sorted(each["request_id"] for each in found) == ids(asked)
        assert await tool.requests() == []

    async def test_a_request_that_the_broker_does_not_take_is_an_error_of_ours(self, queue: Subjects) -> None:
        (large,) = requests(1)
        large.content = bytes(1024 * 1024)
        with pytest.raises(LimitExceeded, match=r"max_payload of 1048576.*LABELLOOP_HTTP_URL") as raised:
            await queue.push([large])
        assert raised.value.reason == "REQUEST_TOO_LARGE"

    async def test_results_come_again_where_the_stream_was_lost(self, queue: Subjects, client: Client) -> None:
        intake, js = FakeIntake(), jetstream(client)
        async with serving(queue, intake):
            await js.publish("labelloop-queue.v1.results.run-1", b"lost with the stream, or not")
            await intake.until(lambda: len(intake.refused) == 1)
            await js.delete_stream(STREAM)

            async def there() -> bool:
                return STREAM in [info.config.name for info in await js.streams_info()]

            await eventually(there)
            await js.publish("labelloop-queue.v1.results.run-1", b"another")
            await intake.until(lambda: len(intake.refused) == 2)

    async def test_nobody_may_purge_what_stands(self, queue: Subjects, client: Client) -> None:
        config = (await jetstream(client).stream_info(STREAM)).config
        assert config.deny_purge
        assert config.deny_delete
        assert config.max_age == 30 * 24 * 3600

    async def test_the_example_annotator_labels(self, queue: Subjects, tool: NatsTool, nats_server: NatsServer) -> None:
        intake, asked = FakeIntake(), requests(12)
        script = Path(__file__).with_name("example_annotator.py")
        assert len(script.read_text().splitlines()) <= 40
        await queue.push(asked)
        annotator = await asyncio.create_subprocess_exec(sys.executable, script, nats_server.url, "run-1", "ann")
        try:
            async with serving(queue, intake):
                await intake.until(lambda: len(intake.recorded) == 12)
                await tool.go_down()
                await tool.come_back()
                await queue.push(requests(14))
                await intake.until(lambda: len(intake.recorded) == 14)
        finally:
            annotator.terminate()
            await annotator.wait()
        assert sorted(intake.ids()) == sorted(ids(requests(14)))
        assert {each.class_name for each in intake.recorded} == {"cat"}
        assert {each.annotator for each in intake.recorded} == {"ann"}
