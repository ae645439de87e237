"""Report what is missing on this machine or, if the services are elsewhere, how they are. Changes nothing."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from labelloop import __version__
from labelloop.errors import InvalidInput
from labelloop.rpc.diagnostics import certificate_ends
from platformdirs import user_cache_path
from rich.table import Table
from rich.text import Text

from labelloop_cli.clients import Endpoints
from labelloop_cli.extras import Extras, extras_here
from labelloop_cli.local.checks import (
    Check,
    command_check,
    disk_check,
    extra_checks,
    mnist_check,
    nats_check,
    port_check,
    python_check,
    torch_check,
)
from labelloop_cli.local.host import Host
from labelloop_cli.operations.addresses import is_this_machine
from labelloop_cli.operations.service_answers import ask_services
from labelloop_cli.operations.service_checks import certificate_check, service_checks
from labelloop_cli.output.console import console


def examine(services: bool | None = None) -> int:
    """Print the results of all checks, and return the exit code.

    Args:
        services: Check the services in place of this machine; None to do so if their addresses are elsewhere.
    """
    endpoints = Endpoints()
    addresses = (endpoints.trainer, endpoints.scorer, endpoints.oracle)
    if services if services is not None else not all(map(is_this_machine, addresses)):
        found = asyncio.run(checks_of_services(endpoints))
        console.print(render(found, failing="fault"))
        return exit_code(found)
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


async def checks_of_services(endpoints: Endpoints, now: datetime | None = None) -> list[Check]:
    """Run the checks of a client whose services are elsewhere: of the command, its certificate, and every service."""
    now = now or datetime.now(UTC)
    own = [python_check(), command_check(extras_here())]
    if folder := endpoints.tls_dir:
        try:
            ends = {name: certificate_ends(folder / f"{name}.crt") for name in ("tls", "ca")}
        except (OSError, ValueError) as error:
            advice = "LABELLOOP_TLS_DIR names a folder of ca.crt, tls.crt and tls.key"
            return [*own, Check("certificate", False, f"cannot be read: {error}", advice)]
        own.append(certificate_check("own certificate", ends["tls"], now))
        own.append(certificate_check("authority", ends["ca"], now))
    else:
        own.append(Check("TLS", True, "off: LABELLOOP_TLS_DIR is not set"))
    try:
        answers = await ask_services(endpoints)
    except InvalidInput as error:
        return [*own, Check("certificate", False, "cannot be used", error.message)]
    return [*own, *service_checks(answers, __version__, now)]


def render(found: Sequence[Check], *, failing: str = "missing") -> Table:
    """Build a table of the checks for a terminal, in which ``failing`` marks those that fail."""
    table = Table("", "what", "found", "what to do")
    for check in found:
        table.add_row(_mark(check, failing), check.name, check.found, check.advice)
    return table


def exit_code(found: Sequence[Check]) -> int:
    """Return 1 if a check failed, else 0."""
    return 0 if all(check.ok for check in found) else 1


def _mark(check: Check, failing: str) -> Text:
    if not check.ok:
        return Text(failing, "red")
    return Text("note", "yellow") if check.advice else Text("ok", "green")
