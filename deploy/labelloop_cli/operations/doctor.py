"""Report which of labelloop's requirements this machine meets, without downloading or starting anything."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from platformdirs import user_cache_path
from rich.table import Table
from rich.text import Text

from labelloop_cli.extras import Extras, extras_here
from labelloop_cli.local.checks import (
    Check,
    disk_check,
    extra_checks,
    mnist_check,
    nats_check,
    port_check,
    python_check,
    torch_check,
)
from labelloop_cli.local.host import Host
from labelloop_cli.output.console import console


def examine() -> int:
    """Check this machine, print the results, and return the exit code."""
    data_dir = os.environ.get("LABELLOOP_DATA_DIR")
    found = checks(extras_here(), user_cache_path("labelloop"), Path(data_dir) if data_dir else None, Path.cwd())
    console.print(render(found))
    return exit_code(found)


def checks(
    extras: Extras, cache_dir: Path, data_dir: Path | None, store_dir: Path, host: Host | None = None
) -> list[Check]:
    """Run all checks, the most basic first, in well under a second.

    Args:
        cache_dir: Folder of downloads.
        data_dir: Folder that may contain MNIST.
        store_dir: Folder on the disk to which runs will write their data.
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
    """Build a table of the checks for a terminal."""
    table = Table("", "what", "found", "what to do")
    for check in found:
        table.add_row(_mark(check), check.name, check.found, check.advice)
    return table


def exit_code(found: Sequence[Check]) -> int:
    """Return 1 if something is missing that labelloop cannot do without, else 0."""
    return 0 if all(check.ok for check in found) else 1


def _mark(check: Check) -> Text:
    if not check.ok:
        return Text("missing", "red")
    return Text("note", "yellow") if check.advice else Text("ok", "green")
