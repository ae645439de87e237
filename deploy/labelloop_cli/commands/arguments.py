"""Define arguments that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

RunId = Annotated[str, typer.Argument(help="The run's id, as `labelloop run list` shows it.", show_default=False)]
