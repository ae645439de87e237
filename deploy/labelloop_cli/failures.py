"""Print the failure of a command and determine its exit code."""

from __future__ import annotations

from labelloop.errors import InvalidInput, LabelloopError, NotFound
from rich.text import Text

from labelloop_cli.output.console import errors

_USAGE = (InvalidInput, NotFound)


def reported(error: BaseException) -> int | None:
    """Print ``error`` and return the exit code: 2 for bad usage, else 1.

    An error other than a LabelloopError is a bug: it is not printed, and None is returned. An exception group counts as
    its first error.
    """
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if not isinstance(error, LabelloopError):
        return None
    errors.print(Text.assemble(("error:", "red"), f" {error.message}"), highlight=False, soft_wrap=True)
    return 2 if isinstance(error, _USAGE) else 1
