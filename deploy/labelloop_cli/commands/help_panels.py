"""Declare a command's options as a dataclass, and show them in panels without loading rich."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import fields
from functools import wraps
from typing import Any, get_type_hints

import typer
from typer.core import TyperCommand


class PanelledCommand(TyperCommand):
    """A command whose help lists its parameters under the titles given by ``rich_help_panel``.

    Typer itself shows panels only with rich, which takes longer to load than everything else that help needs.
    """

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the panels in the order of their first parameters; a parameter without a title is under Other."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            if record := parameter.get_help_record(ctx):
                title = getattr(parameter, "rich_help_panel", None) or "Other"
                panels.setdefault(title, []).append(record)
        for title, records in panels.items():
            with formatter.section(title):
                formatter.write_dl(records)


def flattened(bundle: type[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the fields of the dataclass ``bundle`` as parameters, in place of its parameter ``options``."""
    names = [field.name for field in fields(bundle)]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def flat(**values: Any) -> None:
            options = bundle(**{name: values.pop(name) for name in names})
            command(options=options, **values)

        flat.__signature__ = inspect.Signature([*_parameters(command, bundle)])  # type: ignore[attr-defined]
        return flat

    return decorate


def _parameters(command: Callable[..., None], bundle: type) -> Iterator[inspect.Parameter]:
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        if parameter.name == "options":
            yield from _of(bundle)
        else:
            yield parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)


def _of(bundle: type) -> Iterator[inspect.Parameter]:
    hints = get_type_hints(bundle, include_extras=True)
    for field in fields(bundle):
        yield inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )


def given(context: typer.Context) -> set[str]:
    """Return the names of the parameters that the user gave, so that a default does not count as a choice."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return {name for name, source in sources.items() if source is not None and not source.name.startswith("DEFAULT")}


def from_command_line(context: typer.Context) -> set[str]:
    """Return the names of the parameters that stand on the command line, and not in the environment."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return {name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"}
