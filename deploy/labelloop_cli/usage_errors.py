"""Describe wrong arguments of a command in one line, without loading what commands need."""

from __future__ import annotations

from typing import Any

from typer.exceptions import TyperException

_PREFIXES = ("Value error, ", "Assertion failed, ")  # what pydantic puts before a validator's own words


def usage_fault(error: Any) -> str:
    """Return the fault of a command line, in one line that names the option; empty for errors of other kinds.

    Of a group without a command it is the group's help.
    """
    if not isinstance(error, TyperException):
        return ""
    message, parameter = error.format_message(), getattr(error, "param", None)
    if "\n" in message:
        return message
    where = getattr(error, "param_hint", None) or (_name_of(error, parameter) if parameter is not None else "")
    if where and error.message:
        message = f"{where}: {plain(error.message)}"
    return f"error: {message}"


def plain(message: str) -> str:
    """Return a message in one line, without pydantic's words before a validator's."""
    for prefix in _PREFIXES:
        message = message.removeprefix(prefix)
    return " ".join(message.split())


def _name_of(error: Any, parameter: Any) -> str:
    """Return the option if the value came from one, else the environment variable, else the argument."""
    if parameter.param_type_name == "argument":
        return str(parameter.human_readable_name)
    source = error.ctx.get_parameter_source(parameter.name) if error.ctx else None
    if source is not None and source.name == "ENVIRONMENT":
        return str(parameter.envvar)
    return str(max(parameter.opts, key=len))
