"""``without_losing_cancellation`` raises a cancellation that the work suppresses."""

from __future__ import annotations

import ast
import asyncio
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from labelloop.runtime.cancellation import without_losing_cancellation

ROOT = Path(__file__).parents[2]


async def hiding(outcome: str | Exception) -> str:
    """Wait until cancelled, suppress that, and return or raise ``outcome``."""
    with suppress(asyncio.CancelledError):
        await asyncio.Event().wait()
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


async def cancelled(task: asyncio.Task[str]) -> None:
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])


@pytest.mark.parametrize("outcome", ["answer", ValueError("error")])
async def test_a_cancellation_that_the_work_suppresses_is_raised(outcome: str | Exception) -> None:
    task = asyncio.create_task(without_losing_cancellation(hiding(outcome)))
    await cancelled(task)
    assert task.cancelled()


async def test_a_cancelled_task_may_await_its_clean_up() -> None:
    async def work() -> str:
        try:
            return await without_losing_cancellation(hiding("answer"))
        except asyncio.CancelledError:
            return await without_losing_cancellation(asyncio.sleep(0, "cleaned up"))

    task = asyncio.create_task(work())
    await cancelled(task)
    assert task.result() == "cleaned up"


async def test_a_timeout_inside_the_work_is_not_a_cancellation() -> None:
    async def work() -> str:
        with suppress(TimeoutError):
            async with asyncio.timeout(0):
                await asyncio.Event().wait()
        return "answer"

    assert await without_losing_cancellation(work()) == "answer"


async def test_results_and_errors_are_passed_on() -> None:
    async def fail() -> None:
        raise ValueError("error")

    assert await without_losing_cancellation(asyncio.sleep(0, "answer")) == "answer"
    with pytest.raises(ValueError, match="error"):
        await without_losing_cancellation(fail())


def uses_of_wait_for(path: Path) -> Iterator[int]:
    """Yield lines that name ``asyncio.wait_for``, which loses cancellations on Python 3.11: use ``timeout``."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Attribute(value=ast.Name(id="asyncio"), attr="wait_for"):
                yield node.lineno
            case ast.ImportFrom(module="asyncio", names=names) if any(each.name == "wait_for" for each in names):
                yield node.lineno


@pytest.mark.parametrize("folder", ["proto", "deploy", "trainer_svc", "scorer_svc", "oracle_svc", "tests"])
def test_no_code_uses_asyncio_wait_for(folder: str) -> None:
    files = list((ROOT / folder).rglob("*.py"))
    assert files
    assert not [f"{path}:{line}" for path in files for line in uses_of_wait_for(path)]
