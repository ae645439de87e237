"""Contract tests for the integration of any message queue."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

import pytest
from google.protobuf.json_format import ParseDict
from labelloop.errors import LimitExceeded, Unready
from labelloop.oracle.v1.oracle_pb2 import LabelRequest, LabelRetraction, Prediction
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_fixed

from oracle_svc.integrations.base import Integration, ResultSink
from tests.patience import PATIENCE_S
from tests.queues.fake_intake import FakeIntake
from tests.queues.large_samples import fetched, shown_large_samples
from tests.queues.tool import Tool

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
RUN = "run-1"


class MessageTool(Tool, Protocol):
    async def send(self, data: bytes) -> None:
        """Send any bytes as a result."""
        ...

    async def results_left(self) -> int:
        """Count the results that the tool holds; some tools leave out unacknowledged ones."""
        ...


def requests(count: int, *, run: str = RUN) -> list[LabelRequest]:
    return [
        LabelRequest(
            request_id=f"{run}/2/{sample}/0",
            run_id=run,
            round=2,
            sample_id=sample,
            media_type="image/png",
            content=PNG,
            classes=["cat", "dög"],
            priority=sample,
            prediction=Prediction(label=1, confidence=0.5),
            annotator_count=1,
        )
        for sample in range(count)
    ]


def result(request_id: str, *, label: int = 1, revision: int = 0) -> dict[str, Any]:
    return {"request_id": request_id, "label": label, "annotator": "ann", "revision": revision}


def retractions(asked: Sequence[LabelRequest]) -> list[LabelRetraction]:
    return [
        LabelRetraction(
            request_id=each.request_id, run_id=each.run_id, attempt=each.attempt, next_revision=each.next_revision
        )
        for each in asked
    ]


def ids(asked: Sequence[LabelRequest]) -> list[str]:
    return [request.request_id for request in asked]


@asynccontextmanager
async def serving(
    queue: Integration, result_sink: ResultSink, *, emptying: MessageTool | None = None
) -> AsyncIterator[None]:
    """Serve the queue, at the end until ``emptying`` holds no results; its errors fail the test."""
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(queue.serve(result_sink))
        yield
        if emptying:
            await nothing_left(emptying)
        task.cancel()


async def come(tool: Tool, count: int, *, within_s: float = PATIENCE_S) -> list[dict[str, Any]]:
    """Return the next ``count`` requests, and any delivered with them."""
    found: list[dict[str, Any]] = []
    async with asyncio.timeout(within_s):
        while len(found) < count:
            found += await tool.requests()
            await asyncio.sleep(0.05)
    return found


async def push_at_last(queue: Integration, asked: Sequence[LabelRequest]) -> None:
    """Push as the oracle does: again while the tool is unavailable."""
    retry, stop = retry_if_exception_type(Unready), stop_after_delay(60)
    await AsyncRetrying(retry=retry, stop=stop, wait=wait_fixed(0.3), reraise=True)(queue.push, asked)


async def nothing_left(tool: MessageTool, *, left: int = 0) -> None:
    async def as_many() -> bool:
        return await tool.results_left() == left

    await eventually(as_many)


async def eventually(holds: Callable[[], Awaitable[bool]], *, within_s: float = PATIENCE_S) -> None:
    """Poll until ``holds`` is true, or raise TimeoutError."""
    async with asyncio.timeout(within_s):
        while not await holds():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


class MessageQueueContract:
    """Base of the tests of each tool, which provide the fixtures ``queue`` and ``tool``."""

    brings_once = True  # if acknowledged in time
    large_pixels, takes_large = 555, True  # a sample of 300 KiB, and whether a message may hold one that large

    async def test_requests_arrive_complete_and_in_push_order(self, queue: Integration, tool: MessageTool) -> None:
        asked = requests(25)
        async with serving(queue, FakeIntake()):
            await queue.push(asked)
            found = await come(tool, 25)
        assert [ParseDict(each, LabelRequest()) for each in found] == asked
        assert base64.b64decode(found[0]["content"]) == PNG

    async def test_zeros_are_there_and_empty_texts_are_not(self, queue: Integration, tool: MessageTool) -> None:
        asked = LabelRequest(request_id="run-1/0/0/0", run_id=RUN, sha256="ab", media_type="image/png", content=PNG)
        asked.prediction.confidence = 0.0
        async with serving(queue, FakeIntake()):
            await queue.push([asked])
            [found] = await come(tool, 1)
        numbers = ("round", "sample_id", "slot", "priority", "annotator_count", "next_revision", "attempt")
        assert [found[name] for name in numbers] == [0] * len(numbers)
        assert (found["classes"], found["prediction"]) == ([], {"label": 0, "confidence": 0})
        assert not {"uri", "sample_name", "deadline", "lease_expires_at"} & found.keys()

    async def test_that_results_cannot_be_read_is_noted_until_they_can(
        self, queue: Integration, tool: MessageTool
    ) -> None:
        result_sink = FakeIntake()

        async def is_away() -> bool:
            return bool(result_sink.reading_problem)

        async def is_back() -> bool:
            return not result_sink.reading_problem

        async with serving(queue, result_sink):
            await tool.go_down()
            try:
                await eventually(is_away)
            finally:
                await tool.come_back()
            await eventually(is_back)

    @pytest.mark.parametrize("number", ["next_revision", "attempt"])
    async def test_a_revised_or_retried_request_arrives(
        self, queue: Integration, tool: MessageTool, number: str
    ) -> None:
        first, second = requests(2)
        async with serving(queue, FakeIntake()):
            await queue.push([first, second])
            await come(tool, 2)
            setattr(first, number, 2)
            await queue.push([first])
            [found] = await come(tool, 1)
        assert ParseDict(found, LabelRequest()) == first

    async def test_a_large_sample_comes_as_a_link(self, queue: Integration, tool: MessageTool, tmp_path: Path) -> None:
        async with shown_large_samples(tmp_path, self.large_pixels) as (linked, whole, content):
            if not self.takes_large:
                with pytest.raises(LimitExceeded, match="LABELLOOP_HTTP_URL"):
                    await queue.push([whole])
            await queue.push([linked])
            [found] = await come(tool, 1)
            assert "content" not in found
            assert ParseDict(found, LabelRequest()) == linked
            assert await fetched(found) == content

    async def test_results_arrive_once_in_any_order_and_are_then_removed(
        self, queue: Integration, tool: MessageTool
    ) -> None:
        asked, result_sink = requests(60), FakeIntake()
        async with serving(queue, result_sink, emptying=tool):
            await queue.push(asked)
            for each in reversed(ids(asked)):
                await tool.answer(result(each))
            await result_sink.until(lambda: len(result_sink.recorded) == 60)
        assert sorted(result_sink.ids()) == sorted(ids(asked))
        assert not result_sink.repeated
        await nothing_left(tool)

    async def test_repeated_and_revised_results_are_delivered_too(self, queue: Integration, tool: MessageTool) -> None:
        result_sink = FakeIntake()
        async with serving(queue, result_sink, emptying=tool):
            await tool.answer(result("run-1/2/0/0"))
            await result_sink.until(lambda: len(result_sink.recorded) == 1)
            await tool.answer(result("run-1/2/0/0") | {"source_event_id": "again"})
            await tool.answer(result("run-1/2/0/0", label=0, revision=1))
            await result_sink.until(lambda: len(result_sink.recorded) == 3)
        assert sorted(each.revision for each in result_sink.recorded) == [0, 0, 1]
        await nothing_left(tool)

    @pytest.mark.parametrize("data", [b"{no json", b"[]", b'{"request_id": 7}', b'{"lable": 1}', b"\xf0\x9f\x90\x88"])
    async def test_invalid_results_are_refused_once_and_block_nothing(
        self, queue: Integration, tool: MessageTool, data: bytes
    ) -> None:
        result_sink = FakeIntake()
        async with serving(queue, result_sink, emptying=tool):
            await tool.send(data)
            await tool.answer(result("run-1/2/0/0"))
            await result_sink.until(lambda: bool(result_sink.recorded and result_sink.refused))
        assert result_sink.refused == [data]
        await nothing_left(tool)

    async def test_results_are_retried_with_backoff_while_they_cannot_be_recorded(
        self, queue: Integration, tool: MessageTool
    ) -> None:
        result_sink, expected = FakeIntake(away=True), [f"run-1/2/{sample}/0" for sample in range(3)]
        async with serving(queue, result_sink, emptying=tool):
            for each in expected:
                await tool.answer(result(each))
            await result_sink.until(lambda: result_sink.turned_away >= 3)
            await asyncio.sleep(2)
            assert result_sink.turned_away <= 3 * 4, "half a second, then a second, then two"
            result_sink.away = False
            await result_sink.until(lambda: len(result_sink.recorded) == 3)
        assert sorted(result_sink.ids()) == expected
        await nothing_left(tool)

    async def test_a_result_in_progress_when_the_oracle_stops_is_not_lost(
        self, queue: Integration, tool: MessageTool
    ) -> None:
        result_sink = FakeIntake(holding=True)
        async with serving(queue, result_sink):
            await tool.answer(result("run-1/2/0/0"))
            await result_sink.until(lambda: result_sink.held == 1)
        assert not result_sink.recorded
        await nothing_left(tool, left=1)

    async def test_requests_and_results_survive_a_restart(self, queue: Integration, tool: MessageTool) -> None:
        result_sink, asked = FakeIntake(), requests(5)
        async with serving(queue, FakeIntake()):
            await queue.push(asked)
        for each in ids(asked):
            await tool.answer(result(each))
        await tool.go_down()
        await tool.come_back()
        async with serving(queue, result_sink):
            await result_sink.until(lambda: len(result_sink.recorded) == 5)
        assert {each["request_id"] for each in await come(tool, 5)} == set(ids(asked))

    async def test_serving_resumes_after_an_outage_of_the_tool(self, queue: Integration, tool: MessageTool) -> None:
        result_sink, asked = FakeIntake(), requests(8)
        async with serving(queue, result_sink):
            await queue.push(asked[:4])
            await tool.answer(result(asked[0].request_id))
            await result_sink.until(lambda: len(result_sink.recorded) == 1)
            await tool.go_down()
            with pytest.raises(Unready):
                await queue.push(asked)
            await tool.come_back()
            await push_at_last(queue, asked)
            for each in ids(asked):
                await tool.answer(result(each))
            await result_sink.until(lambda: len(result_sink.recorded) == 8)
            found = await come(tool, 8)
        assert {each["request_id"] for each in found} == set(ids(asked))

    async def test_several_oracles_share_the_results(self, queue: Integration, tool: MessageTool) -> None:
        one, other = FakeIntake(), FakeIntake()
        expected = [f"run-1/2/{sample}/0" for sample in range(80)]
        async with serving(queue, one, emptying=tool), serving(queue, other):
            for each in expected:
                await tool.answer(result(each))

            async def all_there() -> bool:
                return len({*one.ids(), *other.ids()}) == 80

            await eventually(all_there)
        brought = one.ids() + other.ids()
        assert set(brought) == set(expected)
        assert len(brought) == 80 or not self.brings_once
        await nothing_left(tool)

    async def test_serving_ends_soon_when_it_is_cancelled(self, queue: Integration, tool: MessageTool) -> None:
        result_sink = FakeIntake()
        async with serving(queue, result_sink):
            await tool.answer(result("run-1/2/0/0"))
            await result_sink.until(lambda: len(result_sink.recorded) == 1)
            began_s = monotonic()
        assert monotonic() - began_s < 3

    async def test_retracting_a_missing_request_is_no_error(self, queue: Integration, tool: MessageTool) -> None:
        async with serving(queue, FakeIntake()):
            await queue.push(requests(1))
            await queue.retract(retractions([*requests(1), LabelRequest(request_id="run-1/2/99/0", run_id=RUN)]))
