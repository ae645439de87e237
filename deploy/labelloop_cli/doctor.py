"""What labelloop needs on this machine, and what of it is there. Looks only: gets and starts nothing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from platformdirs import user_cache_path
from rich.table import Table
from rich.text import Text

from labelloop_cli.console import console
from labelloop_cli.doctor_checks import (
    Check,
    disk_check,
    extra_checks,
    mnist_check,
    nats_check,
    port_check,
    python_check,
    torch_check,
)
from labelloop_cli.extras import Extras, extras_here
from labelloop_cli.host import Host


def examine() -> int:
    """Print what is here and what is missing. The exit code."""
    data_dir = os.environ.get("LABELLOOP_DATA_DIR")
    found = checks(extras_here(), user_cache_path("labelloop"), Path(data_dir) if data_dir else None, Path.cwd())
    console.print(render(found))
    return exit_code(found)


def checks(
    extras: Extras, cache_dir: Path, data_dir: Path | None, store_dir: Path, host: Host | None = None
) -> list[Check]:
    """Everything looked at, the most basic first; takes well under a second.

    ``cache_dir`` keeps downloads, ``data_dir`` may hold MNIST, ``store_dir`` takes what runs produce.
    """
    return [
        python_check(),
        *extra_checks(extras),
        torch_check(extras),
        nats_check(cache_dir, host or Host()),
        mnist_check(cache_dir, data_dir),
        disk_check(store_dir),
        port_check(),
    ]


def render(found: Sequence[Check]) -> Table:
    """The checks as a table for a terminal."""
    table = Table("", "what", "found", "what to do")
    for check in found:
        table.add_row(_mark(check), check.name, check.found, check.advice)
    return table


def exit_code(found: Sequence[Check]) -> int:
    """1 where something is missing that labelloop cannot do without, else 0."""
    return 0 if all(check.ok for check in found) else 1


def _mark(check: Check) -> Text:
    if not check.ok:
        return Text("missing", "red")
    return Text("note", "yellow") if check.advice else Text("ok", "green")
