"""What a command prints when it fails, and its exit code."""

from __future__ import annotations

from labelloop.wire.errors import InvalidInput, LabelloopError, NotFound
from rich.text import Text

from labelloop_cli.console import errors

_USAGE = (InvalidInput, NotFound)


def reported(error: BaseException) -> int | None:
    """The exit code for ``error``, once it is printed: 2 for bad usage, else 1. None for what is a fault of ours, which
    is not printed. Of a group of errors the first counts."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if not isinstance(error, LabelloopError):
        return None
    errors.print(Text.assemble(("error:", "red"), f" {error.message}"), highlight=False)
    return 2 if isinstance(error, _USAGE) else 1
