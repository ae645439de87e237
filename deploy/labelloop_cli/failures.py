"""Print the failure of a command and determine its exit code."""

from __future__ import annotations

from labelloop.errors import InvalidInput, LabelloopError, NotFound, WrongState
from labelloop.settings import setting_faults
from pydantic import ValidationError
from rich.text import Text

from labelloop_cli.clients import Endpoints
from labelloop_cli.output.console import errors

_USAGE = (InvalidInput, NotFound)


def reported(error: BaseException) -> int | None:
    """Print ``error`` and return the exit code: 2 for bad usage, else 1.

    An error other than a LabelloopError, or of a file, is a bug: it is not printed, and None is returned. An exception
    group counts as its first error.
    """
    if isinstance(error, ValidationError) and error.title == Endpoints.__name__:
        error = InvalidInput("BAD_SETTINGS", "; ".join(setting_faults(error, Endpoints)))
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, OSError) and error.filename is not None:
        error = WrongState("FILE", f"{error.filename}: {error.strerror}")
    if not isinstance(error, LabelloopError):
        return None
    errors.print(Text.assemble(("error:", "red"), f" {error.message}"), highlight=False, soft_wrap=True)
    return 2 if isinstance(error, _USAGE) else 1
