"""A service as a process: logs, metrics, traces, signals, exit codes."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from typing import TypeVar

from labelloop.wire import metrics, tracing
from labelloop.wire.basis import LogRolledBack
from labelloop.wire.errors import LabelloopError
from labelloop.wire.serving import until_signal_or_end
from labelloop.wire.settings import ServiceSettings
from labelloop.wire.telemetry import set_up_logs

S = TypeVar("S", bound=ServiceSettings)


def run_service(name: str, settings: S, serve: Callable[[S], Awaitable[None]]) -> None:
    """Serve until SIGTERM or SIGINT, then drain and leave with 0; leave with 1 and a line where it cannot go on."""
    set_up_logs(name, settings.log_format, settings.log_level)
    tracing.set_up(name)
    asyncio.run(_serve_and_leave(name, settings, serve))


async def _serve_and_leave(name: str, settings: S, serve: Callable[[S], Awaitable[None]]) -> None:
    code = 0
    try:
        metrics.serve(name, settings)
        await until_signal_or_end(serve(settings))
    except* LabelloopError as group:
        code = 1
        for error in group.exceptions:
            print(f"{name}: {error}", file=sys.stderr)
    except* LogRolledBack:
        code = 1
    tracing.shut_down()
    _leave(code)


def _leave(code: int) -> None:
    """End the process now. A thread may be in the middle of a fit or a download, whose result nobody will take any
    more, and Python would wait for it, for minutes."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
