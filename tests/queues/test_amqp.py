"""Requests and results in the queues of a real RabbitMQ."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractIncomingMessage
from aio_pika.exceptions import ChannelNotFoundEntity
from labelloop.errors import Unready
from pydantic import ValidationError

from oracle_svc.integrations import amqp
from oracle_svc.integrations.amqp import Amqp, from_environment
from oracle_svc.integrations.base import Dropping
from tests.patience import PATIENCE_S
from tests.queues.all_tools import only_with_all_tools
from tests.queues.amqp_tool import AmqpTool, RabbitNode, rabbitmq_binary
from tests.queues.fake_intake import FakeIntake
from tests.queues.message_contract import (
    MessageQueueContract,
    come,
    eventually,
    ids,
    nothing_left,
    push_at_last,
    requests,
    result,
    serving,
)

pytestmark = only_with_all_tools()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitNode]:
    binary = rabbitmq_binary()
    if binary is None:
        pytest.skip("there is no rabbitmq-server here: apt-get install rabbitmq-server")
    node = RabbitNode(binary, tmp_path_factory.mktemp("rabbitmq"))
    node.start()
    yield node
    node.stop()


@pytest.fixture
async def tool(node: RabbitNode) -> AsyncIterator[AmqpTool]:
    """A tool with queues of its own."""
    await asyncio.to_thread(node.start)  # a failed test may have left it dead
    tool = AmqpTool(node, uuid4().hex)
    yield tool
    await tool.close()


@pytest.fixture
async def queue(tool: AmqpTool, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Amqp]:
    for name, value in tool.environment.items():
        monkeypatch.setenv(name, value)
    queue = from_environment()
    assert queue is not None
    async with aclosing(queue):
        yield queue


async def come_to_exist(tool: AmqpTool, name: str) -> None:
    async def exists() -> bool:
        try:
            await (await tool.channel()).declare_queue(name, passive=True)
        except ChannelNotFoundEntity:
            return False
        return True

    await eventually(exists)


class TestAmqp(MessageQueueContract):
    async def test_requests_are_persistent_and_carry_id_and_priority(self, queue: Amqp, tool: AmqpTool) -> None:
        async with serving(queue, FakeIntake()):
            await queue.push(requests(600))
            messages = await tool.messages()
        assert [message.message_id for message in messages] == ids(requests(600))
        assert {message.delivery_mode for message in messages} == {DeliveryMode.PERSISTENT}
        assert [messages[place].priority for place in (0, 1, 2, 3, 4, 255, 256, 599)] == [9, 8, 7, 7, 6, 1, 0, 0]

    async def test_requests_of_higher_priority_come_first(self, queue: Amqp, tool: AmqpTool) -> None:
        asked = requests(40)
        async with serving(queue, FakeIntake()):
            await queue.push(asked[32:])
            await queue.push(asked[:2])
            found = await come(tool, 10)
        assert [each["request_id"] for each in found] == ids([*asked[:2], *asked[32:]])

    async def test_requests_expire_at_their_deadline(self, queue: Amqp, tool: AmqpTool) -> None:
        asked, now = requests(4), datetime.now(UTC)
        for request, left in zip(asked, (timedelta(hours=1), timedelta(days=365), timedelta(0)), strict=False):
            request.deadline.FromDatetime(now + left)
        async with serving(queue, FakeIntake()):
            await queue.push(asked)
            messages = await tool.messages()
        assert [message.message_id for message in messages] == ids([asked[0], asked[1], asked[3]])
        assert messages[0].expiration is not None
        assert 3590 < float(str(messages[0].expiration)) <= 3600
        assert {messages[i].expiration for i in (1, 2)} == {86_400.0}, "when they are asked again"

    async def test_requests_expire_when_they_are_asked_again(
        self, tool: AmqpTool, node: RabbitNode, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, value in (tool.environment | {"LABELLOOP_RESEND_S": "1"}).items():
            monkeypatch.setenv(name, value)
        queue = from_environment()
        assert queue is not None
        assert isinstance(queue, Dropping)
        assert queue.kept_s == 1
        async with aclosing(queue):
            await queue.push(requests(3))
            await asyncio.sleep(1.2)
            assert await tool.messages() == []

    async def test_an_expiry_that_the_broker_does_not_know_is_left_out(self, tool: AmqpTool, node: RabbitNode) -> None:
        async with aclosing(Amqp(node.url, tool.requests_queue, tool.results_queue, kept_s=100 * 86_400)) as queue:
            await queue.push(requests(1))
            assert [message.expiration for message in await tool.messages()] == [None], "it knows 49 days"

    async def test_requests_held_back_by_a_memory_alarm_are_published_once(
        self, tool: AmqpTool, node: RabbitNode, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(amqp, "_CONFIRM_WITHIN_S", 1.0)
        asked = requests(60)
        async with aclosing(Amqp(node.url, tool.requests_queue, tool.results_queue)) as queue:
            await queue.push(asked[:1])
            await asyncio.to_thread(node.control, "set_vm_memory_high_watermark", "0.00001")
            try:
                for _ in range(3):
                    with pytest.raises(Unready, match="confirms nothing"):
                        await queue.push(asked[1:])
            finally:
                await asyncio.to_thread(node.control, "set_vm_memory_high_watermark", "0.6")
            await push_at_last(queue, asked[1:])
            found = [message.message_id for message in await tool.messages()]
        assert sorted(filter(None, found)) == sorted(ids(asked))

    @pytest.mark.parametrize("direct", [True, False], ids=["direct", "own queue"])
    async def test_a_verdict_goes_to_the_queue_that_the_broker_named(
        self, queue: Amqp, tool: AmqpTool, direct: bool
    ) -> None:
        channel, replies = await tool.channel(), asyncio.Queue[AbstractIncomingMessage]()
        if direct:
            inbox = await channel.get_queue("amq.rabbitmq.reply-to", ensure=False)
        else:
            inbox = await channel.declare_queue(exclusive=True)
        await inbox.consume(replies.put, no_ack=True)
        await channel.declare_queue(tool.results_queue, durable=True)
        async with serving(queue, FakeIntake(), emptying=tool):
            for data, correlation_id in ((json.dumps(result("run-1/2/0/0")), "a"), ("no json", "b")):
                message = Message(data.encode(), correlation_id=correlation_id, reply_to=inbox.name)
                await channel.default_exchange.publish(message, tool.results_queue)
                async with asyncio.timeout(PATIENCE_S):
                    reply = await replies.get()
                assert reply.correlation_id == correlation_id
                verdict = json.loads(reply.body)
                expected = {"a": ("run-1/2/0/0", "VERDICT_RECORDED"), "b": ("", "VERDICT_REFUSED")}
                assert (verdict["request_id"], verdict["verdict"]) == expected[correlation_id]

    async def test_a_result_cannot_have_a_verdict_put_into_a_queue_of_its_choice(
        self, tool: AmqpTool, node: RabbitNode
    ) -> None:
        verdicts, channel = f"{tool.results_queue}.verdicts", await tool.channel()
        await channel.declare_queue(tool.requests_queue, durable=True, arguments={"x-max-priority": 9})
        async with (
            aclosing(Amqp(node.url, tool.requests_queue, tool.results_queue, verdicts)) as queue,
            serving(queue, FakeIntake()),
        ):
            for reply_to in (tool.requests_queue, "amq.direct", ""):
                await channel.declare_queue(tool.results_queue, durable=True)
                message = Message(json.dumps(result("run-1/2/0/0")).encode(), message_id="m", reply_to=reply_to)
                await channel.default_exchange.publish(message, tool.results_queue)

            async def told() -> bool:
                kept = await (await tool.channel()).declare_queue(verdicts, passive=True)
                return kept.declaration_result.message_count == 3

            await come_to_exist(tool, verdicts)
            await eventually(told)
        assert await tool.messages() == []
        inbox = await channel.get_queue(verdicts)
        assert (await inbox.get(no_ack=True)).correlation_id == "m"

    async def test_existing_queues_are_used_as_they_are(self, queue: Amqp, tool: AmqpTool) -> None:
        channel = await tool.channel()
        for name in (tool.requests_queue, tool.results_queue):
            await channel.declare_queue(name, durable=True, arguments={"x-queue-type": "quorum"})
        async with serving(queue, FakeIntake()):
            await queue.push(requests(3))
            assert [each["request_id"] for each in await come(tool, 3)] == ids(requests(3))

    async def test_deleted_queues_are_recreated(self, queue: Amqp, tool: AmqpTool) -> None:
        result_sink = FakeIntake()
        async with serving(queue, result_sink):
            await queue.push(requests(1))
            await tool.answer(result("run-1/2/0/0"))
            await result_sink.until_all(1)
            channel = await tool.channel()
            for name in (tool.requests_queue, tool.results_queue):
                await channel.queue_delete(name)
            with pytest.raises(Unready):
                await queue.push(requests(3))
            await push_at_last(queue, requests(3))
            await tool.answer(result("run-1/2/1/0"))
            await result_sink.until_all(2)
            assert len(await come(tool, 3)) == 3

    async def test_a_push_that_failed_goes_on_where_it_broke_off(self, queue: Amqp, tool: AmqpTool) -> None:
        asked, channel = requests(4), await tool.channel()
        await channel.declare_queue(
            tool.requests_queue, durable=True, arguments={"x-max-length": 2, "x-overflow": "reject-publish"}
        )
        async with serving(queue, FakeIntake()):
            with pytest.raises(Unready):
                await queue.push(asked)
            found = await tool.requests()
            await queue.push(asked)
            found += await tool.requests()
            await queue.push(asked[:1])
            again = await tool.requests()
        assert sorted(each["request_id"] for each in found) == ids(asked)
        assert len(again) == 1, "what was pushed whole is pushed again when that is asked for"

    async def test_results_that_one_oracle_cannot_record_go_to_another(self, queue: Amqp, tool: AmqpTool) -> None:
        """After some tries, while the first one still serves; RabbitMQ chooses between them."""
        away, present = FakeIntake(away=True), FakeIntake()
        async with serving(queue, away):
            for sample in range(3):
                await tool.answer(result(f"run-1/2/{sample}/0"))
            await away.until(lambda: away.turned_away >= 3)

            async def all_there() -> bool:
                return len(away.recorded) + len(present.recorded) == 3

            async with serving(queue, present):
                await present.until(lambda: bool(present.recorded))
                away.away = False
                await eventually(all_there)
        assert sorted(away.ids() + present.ids()) == [f"run-1/2/{sample}/0" for sample in range(3)]
        await nothing_left(tool)

    async def test_a_memory_alarm_that_blocks_publishers_is_named(
        self, queue: Amqp, node: RabbitNode, tool: AmqpTool
    ) -> None:
        result_sink = FakeIntake()
        async with serving(queue, result_sink):
            await queue.push(requests(1))
            await asyncio.to_thread(node.allow_memory, 0)
            try:
                with pytest.raises(Unready, match="an alarm about its memory or its disk blocks publishers"):
                    await queue.push(requests(3))
                assert result_sink.reading_problem == "", "results can be read"
            finally:
                await asyncio.to_thread(node.allow_memory, 0.6)
            await push_at_last(queue, requests(3))
            assert {each["request_id"] for each in await come(tool, 3)} >= {*ids(requests(3))}

    @pytest.mark.parametrize("url", ["http://127.0.0.1", "rabbit"])
    def test_an_invalid_url_is_a_settings_error(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LABELLOOP_AMQP_URL", url)
        with pytest.raises(ValidationError, match="url"):
            from_environment()


def test_without_a_url_the_integration_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABELLOOP_AMQP_URL", "")
    assert from_environment() is None
