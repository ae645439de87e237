"""Define arguments that several commands share."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

RunId = Annotated[str, typer.Argument(help="The run's id, as `labelloop run list` shows it.", show_default=False)]


AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")]


class ListByDefault(TyperGroup):
    """A group whose command ``list`` is meant where no other command is named."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        named = bool(args) and (args[0] in self.commands or args[0] in ("--help", "-h"))
        return super().parse_args(ctx, args if named else ["list", *args])
