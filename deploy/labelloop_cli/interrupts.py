"""Commands that take a while, and Ctrl-C."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import typer


def carry_out(work: Coroutine[Any, Any, None], *, interrupted: str = "stopped") -> None:
    """Carry out ``work``, with its warnings logged to standard error; after Ctrl-C print ``interrupted`` and leave with
    130, as shells expect."""
    import asyncio

    from labelloop.wire.telemetry import set_up_logs

    from labelloop_cli.console import errors

    set_up_logs("labelloop", "text", "warning")
    try:
        asyncio.run(work)
    except KeyboardInterrupt:
        errors.print(interrupted)
        raise typer.Exit(130) from None
