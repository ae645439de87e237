"""Keeps every run that has not ended going, each in a task of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

import structlog
from structlog.contextvars import bind_contextvars, bound_contextvars

from labelloop.wire import tracing
from labelloop.wire.cancelling import heeded
from labelloop.wire.errors import LabelloopError
from labelloop.wire.run_book import Run, RunBook


class Driven(Run, Protocol):
    """A run that has rounds."""

    round: int


R = TypeVar("R", bound=Driven)
Advance = Callable[[str], Awaitable[None]]

_PAUSE_S, _PAUSE_MAX_S = 0.5, 15.0

log = structlog.get_logger()


async def drive(book: RunBook[R], advance: Advance) -> None:
    """Call ``advance`` for a run at each of its changes until it is over, for ever. ``advance`` must be repeatable."""
    async with asyncio.TaskGroup() as tasks:
        begun: set[str] = set()
        with book.bell() as bell:
            while True:
                for run_id in book.runs.keys() - begun:
                    begun.add(run_id)
                    tasks.create_task(_drive_run(book, advance, run_id))
                await bell.wait()
                bell.clear()


async def _drive_run(book: RunBook[R], advance: Advance, run_id: str) -> None:
    """Advance one run at each of its changes until it ends; what goes wrong is said, and tried again later."""
    state, pause_s = book.get(run_id), _PAUSE_S
    bind_contextvars(run=run_id)  # the task's own
    with book.bell(run_id) as bell:
        while not state.over:
            bell.clear()
            try:
                await heeded(_advance(book, advance, run_id))
            except Exception as error:
                with bound_contextvars(round=state.round):
                    _say(book, run_id, error)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _PAUSE_MAX_S)
                continue
            book.set_problem(run_id, "")
            pause_s = _PAUSE_S
            if not state.over:
                await bell.wait()


async def _advance(book: RunBook[R], advance: Advance, run_id: str) -> None:
    state = book.get(run_id)
    with (
        bound_contextvars(round=state.round),
        tracing.span("advance", book.carriers.get(run_id, {}), run=run_id, round=state.round),
    ):
        await advance(run_id)


def _say(book: RunBook[R], run_id: str, error: Exception) -> None:
    if isinstance(error, LabelloopError):
        log.error("run held up", run=run_id, reason=error.reason, problem=error.message)
        book.set_problem(run_id, error.message)
    else:
        log.exception("run held up by a fault of ours", run=run_id)
        book.set_problem(run_id, f"a fault of ours, see the log: {type(error).__name__}: {error}")
