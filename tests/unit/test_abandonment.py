"""Work in threads ends when its caller leaves, and shared work when the last of its callers does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar

import pytest
from labelloop.domain.abandonment import Abandoned, Wanted, check_wanted, passed_on, wanted
from labelloop.runtime.async_cache import AsyncCache
from labelloop.runtime.threads import in_thread

from tests.patience import PATIENCE_S

ASKED_BY = ContextVar("asked_by", default="nobody")


class Endless:
    """Work that ends only when nobody wants it; ``began`` and ``ended`` are told from its thread."""

    def __init__(self, check: Callable[[], None] = check_wanted) -> None:
        self._check = check
        self.began, self.ended = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.began.set()
        try:
            while not self.ended.wait(0.001):
                self._check()
        except Abandoned:
            self.ended.set()
            raise

    async def until_begun(self) -> None:
        assert await asyncio.to_thread(self.began.wait, PATIENCE_S)

    async def until_ended(self) -> None:
        assert await asyncio.to_thread(self.ended.wait, PATIENCE_S)


async def left(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert all(task.cancelled() for task in tasks)


async def test_work_whose_caller_leaves_ends() -> None:
    work = Endless()
    with ThreadPoolExecutor(1) as executor:
        calling = asyncio.create_task(in_thread(executor, work))
        await work.until_begun()
        await left(calling)
        await work.until_ended()


async def test_work_that_has_not_begun_never_does() -> None:
    first, second = Endless(), Endless()
    with ThreadPoolExecutor(1) as executor:
        calls = [asyncio.create_task(in_thread(executor, each)) for each in (first, second)]
        await first.until_begun()
        await left(*reversed(calls))
        await first.until_ended()
    assert not second.began.is_set()


async def test_threads_of_the_work_end_with_it() -> None:
    inner = Endless()

    def work() -> None:
        with ThreadPoolExecutor(1) as threads:
            threads.submit(passed_on(inner)).result()

    calling = asyncio.create_task(in_thread(None, work))
    await inner.until_begun()
    await left(calling)
    await inner.until_ended()


async def test_results_errors_and_context_variables_pass_through() -> None:
    ASKED_BY.set("kim")
    assert await in_thread(None, lambda *given: (ASKED_BY.get(), *given), 1, 2) == ("kim", 1, 2)
    with pytest.raises(ValueError, match="invalid literal"):
        await in_thread(None, int, "x")


def test_work_that_somebody_waits_for_goes_on() -> None:
    assert Wanted().run(lambda: list(wanted([1, 2]))) == [1, 2]
    check_wanted()
    assert passed_on(len) is len


def test_work_is_wanted_again_in_the_same_thread_afterwards() -> None:
    ended = Wanted()
    ended.abandon()
    with pytest.raises(Abandoned):
        ended.run(check_wanted)
    check_wanted()


async def test_a_load_goes_on_for_as_long_as_one_caller_waits() -> None:
    work = Endless()

    async def load(key: str) -> None:
        await in_thread(None, work)

    cache = AsyncCache(load, kept=1)
    calls = [asyncio.create_task(cache.get("a")) for _ in range(3)]
    await work.until_begun()
    await left(*calls[:2])
    assert not work.ended.wait(0.05)
    await left(calls[2])
    await work.until_ended()


async def test_a_load_that_was_given_up_begins_anew_for_the_next_caller() -> None:
    loads = 0
    given_up = asyncio.Event()

    async def load(key: str) -> str:
        nonlocal loads
        loads += 1
        if loads == 1:
            try:
                await asyncio.Event().wait()
            finally:
                given_up.set()
        return key

    cache = AsyncCache(load, kept=1)
    first = asyncio.create_task(cache.get("a"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)  # the caller has left, and its load has yet to hear of that
    assert not given_up.is_set()
    assert await cache.get("a") == "a"
    assert given_up.is_set()
    assert await cache.get("a") == "a"
    assert loads == 2
