"""Have services check the settings that they would be started with, before any is started."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping

from labelloop.errors import InvalidInput

_SERVICES = ("trainer", "scorer", "oracle")
_WRONG = 2  # the exit code of a process whose settings are wrong


async def check_settings(given: Mapping[str, str], options: Mapping[str, str]) -> None:
    """Raise InvalidInput if a service would refuse its settings; without any settings there is nothing to check.

    Args:
        given: Variables that are set for services beside those of this process.
        options: The option that a variable comes from, where it comes from one: the message names that.
    """
    if not given and not any(name.startswith("LABELLOOP_") for name in os.environ):
        return
    environment = {**os.environ, "LABELLOOP_PORT": "0", **given}
    said = await asyncio.gather(*(_faults(f"{name}_svc.settings_check", environment) for name in _SERVICES))
    lines = dict.fromkeys(line for each in said for line in each)
    if lines:
        message = "; ".join(lines)
        for variable, option in options.items():
            message = message.replace(variable, option)
        raise InvalidInput("BAD_SETTINGS", message)


async def _faults(module: str, environment: Mapping[str, str]) -> list[str]:
    """Return what a module says of the settings; nothing if they are right, or if it cannot run."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module),
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        _, said = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    return said.decode(errors="replace").splitlines() if process.returncode == _WRONG else []
