"""Commands that take a while, and Ctrl-C."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import typer

from labelloop_cli.console import errors


def carry_out(work: Coroutine[Any, Any, None], *, interrupted: str = "stopped") -> None:
    """Carry out ``work``; after Ctrl-C say ``interrupted`` and leave with 130, as shells expect."""
    try:
        asyncio.run(work)
    except KeyboardInterrupt:
        errors.print(interrupted)
        raise typer.Exit(130) from None
