"""The SQS integration against moto, which simulates SQS."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

import pytest
from labelloop.errors import InvalidInput, LimitExceeded, Unready
from pydantic import ValidationError

from oracle_svc.integrations.sqs import Sqs, batches, from_environment
from tests.queues.all_tools import only_with_all_tools
from tests.queues.fake_intake import FakeIntake
from tests.queues.message_contract import MessageQueueContract, eventually, ids, requests, result, serving
from tests.queues.sqs_tool import MotoProcess, SqsTool

pytest.importorskip("moto.server", reason="moto, flask or flask-cors is not installed")
pytestmark = only_with_all_tools()


@pytest.fixture(scope="module")
def moto() -> Iterator[MotoProcess]:
    moto = MotoProcess()
    yield moto
    moto.stop()


@pytest.fixture(params=["standard", "fifo"])
async def tool(moto: MotoProcess, request: pytest.FixtureRequest) -> AsyncIterator[SqsTool]:
    await asyncio.to_thread(moto.up)  # a failed test may have left it down
    tool = SqsTool(moto, fifo=request.param == "fifo")
    yield tool
    tool.close()


@pytest.fixture
async def queue(tool: SqsTool, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sqs]:
    for name, value in tool.environment.items():
        monkeypatch.setenv(name, value)
    queue = from_environment()
    assert queue is not None
    async with aclosing(queue):
        yield queue


class PartlyFailing:
    """An SQS client that, the first ``times`` times, takes only ``taken`` entries of a batch."""

    def __init__(self, client: Any, *, times: int, taken: int = 2, sender_fault: bool = False) -> None:
        self._client, self._times, self._taken, self._sender_fault = client, times, taken, sender_fault
        self.calls = 0

    def send_message_batch(self, *, QueueUrl: str, Entries: list[dict[str, str]]) -> dict[str, Any]:  # noqa: N803
        self.calls += 1
        if self.calls > self._times:
            return dict(self._client.send_message_batch(QueueUrl=QueueUrl, Entries=Entries))
        answer = dict(self._client.send_message_batch(QueueUrl=QueueUrl, Entries=Entries[: self._taken]))
        fault = {"SenderFault": self._sender_fault, "Code": "InternalError", "Message": "not now"}
        return answer | {"Failed": [fault | {"Id": entry["Id"]} for entry in Entries[self._taken :]]}


class TestSqs(MessageQueueContract):
    brings_once, takes_large = False, False

    async def test_a_fifo_queue_deduplicates_requests_that_are_pushed_again(self, queue: Sqs, tool: SqsTool) -> None:
        await queue.push(requests(5))
        await queue.push(requests(7))
        found = [each["request_id"] for each in await tool.requests()]
        twice = [] if tool.requests_url.endswith(".fifo") else ids(requests(5))
        assert sorted(found) == sorted(ids(requests(7)) + twice)

    async def test_several_annotators_work_on_one_run_at_a_time(self, queue: Sqs, tool: SqsTool) -> None:
        await queue.push(requests(6))
        held = []
        for _ in range(6):
            answer = await asyncio.to_thread(
                tool.client.receive_message, QueueUrl=tool.requests_url, MaxNumberOfMessages=1, VisibilityTimeout=60
            )
            held += [json.loads(message["Body"])["request_id"] for message in answer.get("Messages", [])]
        assert sorted(held) == ids(requests(6)), "none is deleted yet"

    async def test_verdicts_are_put_into_their_queue(self, tool: SqsTool) -> None:
        verdicts_url = tool.results_url.replace("results", "verdicts")
        attributes = {"FifoQueue": "true"} if verdicts_url.endswith(".fifo") else {}
        name = verdicts_url.rpartition("/")[2]
        await asyncio.to_thread(tool.client.create_queue, QueueName=name, Attributes=attributes)
        queue = Sqs(tool.client, tool.requests_url, tool.results_url, verdicts_url)
        told: list[dict[str, Any]] = []
        async with serving(queue, FakeIntake(), emptying=tool):
            await tool.answer(result("run-1/2/0/0"))
            await tool.answer(result("run-1/2/0/0"))
            await tool.send(b"no json")

            async def all_told() -> bool:
                answer = await asyncio.to_thread(
                    tool.client.receive_message, QueueUrl=verdicts_url, MaxNumberOfMessages=10, VisibilityTimeout=600
                )
                told.extend(json.loads(message["Body"]) for message in answer.get("Messages", []))
                for message in answer.get("Messages", []):
                    receipt = message["ReceiptHandle"]
                    await asyncio.to_thread(tool.client.delete_message, QueueUrl=verdicts_url, ReceiptHandle=receipt)
                return len(told) >= 3

            await eventually(all_told)
        found = sorted((each["request_id"], each["verdict"]) for each in told)
        expected = [("", "VERDICT_REFUSED"), ("run-1/2/0/0", "VERDICT_RECORDED"), ("run-1/2/0/0", "VERDICT_REPEATED")]
        assert found == expected

    async def test_a_verdicts_queue_that_takes_nothing_holds_up_no_result(self, tool: SqsTool) -> None:
        queue, result_sink = (
            Sqs(tool.client, tool.requests_url, tool.results_url, f"{tool.results_url}-none"),
            FakeIntake(),
        )
        async with serving(queue, result_sink, emptying=tool):
            for sample in range(30):
                await tool.answer(result(f"run-1/2/{sample}/0"))
            await result_sink.until_all(30)

    async def test_failed_entries_of_a_batch_are_retried(self, tool: SqsTool) -> None:
        failing = PartlyFailing(tool.client, times=1)
        await Sqs(failing, tool.requests_url, tool.results_url).push(requests(12))
        found = [each["request_id"] for each in await tool.requests()]
        assert sorted(found) == sorted(ids(requests(12)))
        assert failing.calls == 3

    async def test_a_push_that_failed_goes_on_where_it_broke_off(self, tool: SqsTool) -> None:
        failing = PartlyFailing(tool.client, times=4, taken=1)
        queue = Sqs(failing, tool.requests_url, tool.results_url)
        with pytest.raises(Unready, match="not now"):
            await queue.push(requests(8))
        await queue.push(requests(8))
        found = [each["request_id"] for each in await tool.requests()]
        assert sorted(found) == ids(requests(8))

    async def test_a_request_that_sqs_refuses_is_invalid_input(self, tool: SqsTool) -> None:
        failing = PartlyFailing(tool.client, times=1, sender_fault=True)
        with pytest.raises(InvalidInput, match="run-1/2/2/0"):
            await Sqs(failing, tool.requests_url, tool.results_url).push(requests(5))

    async def test_a_too_large_request_is_an_error_and_nothing_is_sent(self, queue: Sqs, tool: SqsTool) -> None:
        asked = requests(3)
        asked[1].content = bytes(200 * 1024)
        with pytest.raises(LimitExceeded, match="LABELLOOP_HTTP_URL"):
            await queue.push(asked)
        assert await tool.requests() == []

    async def test_large_requests_are_all_sent(self, queue: Sqs, tool: SqsTool) -> None:
        asked = requests(5)
        for request in asked:
            request.content = bytes(100 * 1024)
        await queue.push(asked)
        assert [each["request_id"] for each in await tool.requests()] == ids(asked)


def test_a_batch_holds_at_most_ten_messages_and_256_kib() -> None:
    sizes = [1] * 11 + [130_000, 130_000, 130_000, 262_144, 1]
    made = batches([{"MessageBody": "x" * size} for size in sizes])
    assert [[len(entry["MessageBody"]) for entry in batch] for batch in made] == [
        [1] * 10,
        [1, 130_000, 130_000],
        [130_000],
        [262_144],
        [1],
    ]


def test_a_requests_queue_without_a_results_queue_is_a_settings_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABELLOOP_SQS_REQUESTS_URL", "https://sqs.eu-west-1.amazonaws.com/1/requests")
    with pytest.raises(ValidationError, match="RESULTS_URL"):
        from_environment()


def test_without_queue_urls_the_integration_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABELLOOP_SQS_REQUESTS_URL", "")
    assert from_environment() is None


def test_queues_without_a_region_are_a_settings_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    for kind in ("REQUESTS", "RESULTS"):
        monkeypatch.setenv(f"LABELLOOP_SQS_{kind}_URL", "https://sqs.eu-west-1.amazonaws.com/1/queue")
    with pytest.raises(InvalidInput, match="LABELLOOP_SQS_REGION"):
        from_environment()
