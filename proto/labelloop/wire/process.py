"""A service as a process: logs, signals, exit codes."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import TypeVar

from labelloop.wire.errors import LabelloopError
from labelloop.wire.serving import until_signal_or_end
from labelloop.wire.settings import ServiceSettings
from labelloop.wire.telemetry import set_up_logs

S = TypeVar("S", bound=ServiceSettings)


def run_service(name: str, settings: S, serve: Callable[[S], Awaitable[None]]) -> None:
    """Serve until SIGTERM or SIGINT, then drain and leave with 0; leave with 1 and a line where it cannot go on."""
    set_up_logs(name, settings.log_format, settings.log_level)
    try:
        asyncio.run(until_signal_or_end(serve(settings)))
    except* LabelloopError as group:
        for error in group.exceptions:
            print(f"{name}: {error}", file=sys.stderr)
        sys.exit(1)
