"""The SQS integration against moto, which simulates SQS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

import pytest
from labelloop.errors import InvalidInput, LimitExceeded, Unready
from pydantic import ValidationError

from oracle_svc.integrations.sqs import Sqs, batches, from_environment
from tests.queues.all_tools import only_with_all_tools
from tests.queues.message_contract import MessageQueueContract, ids, requests
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
