"""Requests and results in streams of the broker itself."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from labelloop.errors import LimitExceeded
from labelloop.eventlog.connection import connect, jetstream
from labelloop_cli.local.nats.server import NatsServer
from nats.aio.client import Client

from oracle_svc.integrations.nats import STREAM, Nats
from tests.patience import PATIENCE_S
from tests.queues.fake_intake import FakeIntake
from tests.queues.message_contract import MessageQueueContract, come, eventually, ids, requests, result, serving
from tests.queues.nats_tool import NatsTool, nats_tool


@pytest.fixture
async def client(nats_server: NatsServer) -> AsyncIterator[Client]:
    client = await connect(nats_server.url, "oracle")
    yield client
    await client.close()


@pytest.fixture
async def queue(client: Client) -> Nats:
    """A queue whose stream exists, so that results can be published."""
    queue = Nats(client)
    await queue.push([])
    return queue


@pytest.fixture
async def tool(nats_server: NatsServer) -> AsyncIterator[NatsTool]:
    async with nats_tool(nats_server) as tool:
        yield tool


class TestSubjects(MessageQueueContract):
    large_pixels, takes_large = 1200, False

    async def test_request_pushed_repeatedly_is_stored_once(self, queue: Nats, tool: NatsTool) -> None:
        asked = requests(5)
        await queue.push(asked[:3])
        await tool.go_down()
        await tool.come_back()
        await asyncio.gather(queue.push(asked), queue.push(asked))
        found = await come(tool, 5)
        assert sorted(each["request_id"] for each in found) == ids(asked)
        assert await tool.requests() == []

    async def test_request_too_large_for_the_broker_is_refused(self, queue: Nats) -> None:
        (large,) = requests(1)
        large.content = bytes(1024 * 1024)
        with pytest.raises(LimitExceeded, match=r"max_payload of 1048576.*LABELLOOP_HTTP_URL") as raised:
            await queue.push([large])
        assert raised.value.reason == "REQUEST_TOO_LARGE"

    async def test_results_resume_after_the_stream_was_deleted(self, queue: Nats, client: Client) -> None:
        result_sink, js = FakeIntake(), jetstream(client)
        async with serving(queue, result_sink):
            await js.publish("labelloop-queue.v1.results.run-1", b"lost with the stream, or not")
            await result_sink.until(lambda: len(result_sink.refused) == 1)
            await js.delete_stream(STREAM)

            async def there() -> bool:
                return STREAM in [info.config.name for info in await js.streams_info()]

            await eventually(there)
            await js.publish("labelloop-queue.v1.results.run-1", b"another")
            await result_sink.until(lambda: len(result_sink.refused) == 2)

    async def test_verdicts_are_published_by_run(self, queue: Nats, client: Client) -> None:
        js = jetstream(client)
        verdicts = await js.subscribe("labelloop-queue.v1.verdicts.run-1", ordered_consumer=True)
        result_sink = FakeIntake()
        said = [json.dumps(result("run-1/2/0/0")), json.dumps(result("run-1/2/0/0")), '{"no": "json"', "[]"]
        async with serving(queue, result_sink):
            told = []
            for data in said:
                await js.publish("labelloop-queue.v1.results.run-1", data.encode())
                told.append(json.loads((await verdicts.next_msg(timeout=PATIENCE_S)).data))
        assert [each["verdict"] for each in told] == [
            *("VERDICT_RECORDED", "VERDICT_REPEATED", "VERDICT_REFUSED", "VERDICT_REFUSED")
        ]
        assert told[0] == {
            "request_id": "run-1/2/0/0",
            "run_id": "",
            "annotator": "ann",
            "verdict": "VERDICT_RECORDED",
            "reason": "",
            "message": "",
            "attempt": 0,
            "source_event_id": "",
            "revision": 0,
        }

    async def test_stream_denies_purging_and_deleting(self, queue: Nats, client: Client) -> None:
        config = (await jetstream(client).stream_info(STREAM)).config
        assert config.deny_purge
        assert config.deny_delete
        assert config.max_age == 30 * 24 * 3600

    async def test_example_annotator_labels(self, queue: Nats, tool: NatsTool, nats_server: NatsServer) -> None:
        result_sink, asked = FakeIntake(), requests(12)
        script = Path(__file__).with_name("example_annotator.py")
        assert len(script.read_text().splitlines()) <= 40
        await queue.push(asked)
        annotator = await asyncio.create_subprocess_exec(sys.executable, script, nats_server.url, "run-1", "ann")
        try:
            async with serving(queue, result_sink):
                await result_sink.until(lambda: len(result_sink.recorded) == 12)
                await tool.go_down()
                await tool.come_back()
                await queue.push(requests(14))
                await result_sink.until(lambda: len(result_sink.recorded) == 14)
        finally:
            annotator.terminate()
            await annotator.wait()
        assert sorted(result_sink.ids()) == sorted(ids(requests(14)))
        assert {each.class_name for each in result_sink.recorded} == {"cat"}
        assert {each.annotator for each in result_sink.recorded} == {"ann"}
