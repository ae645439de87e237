"""Run a command's coroutine and handle Ctrl-C."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import typer


def carry_out(work: Coroutine[Any, Any, None], *, interrupted: str = "stopped") -> None:
    """Run ``work`` to completion, logging its warnings to standard error.

    On Ctrl-C, prints ``interrupted`` and exits with code 130, as shells expect.
    """
    import asyncio

    from labelloop.observability.logs import set_up_logs

    from labelloop_cli.output.console import errors

    set_up_logs("labelloop", "text", "warning")
    try:
        asyncio.run(work)
    except KeyboardInterrupt:
        errors.print(interrupted)
        raise typer.Exit(130) from None
