"""Describe this machine, how to run commands on it, and how to reach the network.

Code that installs things takes a Host, so that tests can substitute one.
"""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

_COMMAND_TIMEOUT_S = 120.0

Run = Callable[[Sequence[str], Path], "subprocess.CompletedProcess[str]"]
"""Runs a command in a folder, stderr merged into stdout. Raises OSError and subprocess.TimeoutExpired."""


def run_command(command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command without a terminal, for two minutes at most, with messages in English."""
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_COMMAND_TIMEOUT_S,
        check=False,
    )


@dataclass(frozen=True)
class Host:
    env: Mapping[str, str] = field(default_factory=lambda: os.environ)
    system: str = field(default_factory=lambda: platform.system().lower())
    architecture: str = field(default_factory=lambda: platform.machine().lower())
    is_root: bool = field(default_factory=lambda: os.geteuid() == 0)
    # Daemons are installed here, and only root has these on its PATH.
    more_dirs: tuple[str, ...] = ("/usr/sbin", "/usr/local/sbin")
    run: Run = run_command
    transport: httpx.BaseTransport | None = None
