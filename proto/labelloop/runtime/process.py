"""Run a service as a process, with logs, metrics, traces, signals and exit codes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import TypeVar

from labelloop.errors import LabelloopError, LogRolledBack
from labelloop.observability import metrics, tracing
from labelloop.observability.logs import set_up_logs
from labelloop.runtime.descriptors import raise_descriptor_limit
from labelloop.runtime.loop_lag import loop_lag
from labelloop.settings import ServiceSettings

S = TypeVar("S", bound=ServiceSettings)


def run_service(name: str, settings: S, serve: Callable[[S], Awaitable[None]]) -> None:
    """Serve until SIGTERM or SIGINT, then drain and exit with 0; exit with 1 and a message if it cannot go on."""
    set_up_logs(name, settings.log_format, settings.log_level)
    tracing.set_up(name)
    raise_descriptor_limit()
    asyncio.run(_serve_and_leave(name, settings, serve))


async def _serve_and_leave(name: str, settings: S, serve: Callable[[S], Awaitable[None]]) -> None:
    code = 0
    try:
        metrics.serve(name, settings)
        async with loop_lag():
            await until_signal_or_end(_without_exit(serve(settings)))
    except* _Exit as group:
        code = group.exceptions[0].code  # type: ignore[union-attr]
    except* LabelloopError as group:
        code = 1
        for error in group.exceptions:
            print(f"{name}: {error}", file=sys.stderr)
    except* LogRolledBack:
        code = 1
    tracing.shut_down()
    _leave(code)


class _Exit(Exception):
    """A service that ended itself with an exit code, and said why."""

    def __init__(self, code: int) -> None:
        self.code = code


async def _without_exit(work: Awaitable[None]) -> None:
    """Await ``work``; if it calls for the end of the process, raise that as an error.

    A SystemExit in a task would leave the event loop at once, which reports it with a traceback.
    """
    try:
        await work
    except SystemExit as request:
        raise _Exit(request.code if isinstance(request.code, int) else 1) from None


def _leave(code: int) -> None:
    """Exit at once, without waiting for threads.

    A thread may be in a fit or a download, for which Python would wait, for minutes, although its result is no
    longer needed.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


async def until_signal_or_end(work: Awaitable[None]) -> None:
    """Run ``work`` until it ends, or cancel it on SIGTERM or SIGINT; raise its error if it fails."""
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    tasks = [asyncio.ensure_future(work), asyncio.create_task(asked.wait())]
    done, waiting = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    for task in (*done, *waiting):
        if not task.cancelled():
            task.result()
