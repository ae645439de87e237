"""The running services of deploy/docker/compose.yaml."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.docker.engine import Engine
from tests.docker.supplies import ROOT
from tests.patience import PATIENCE_S

COMPOSE = ROOT / "deploy" / "docker" / "compose.yaml"
PROJECT = "labelloop"
SERVICES = ("trainer", "scorer", "oracle")
PORTS = {"trainer": 50051, "scorer": 50052, "oracle": 50053}
_LOOK_EVERY_S = 0.1


def compose_command() -> list[str] | None:
    """Docker's plugin, else the older standalone program; None without either."""
    if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0:
        return ["docker", "compose"]
    return ["docker-compose"] if shutil.which("docker-compose") else None


class Stack:
    """``data`` is the oracle's /data."""

    def __init__(self, engine: Engine, command: list[str], folder: Path, data: Path) -> None:
        self.engine = engine
        engine.environment["LABELLOOP_DATA_DIR"] = str(data)
        file = COMPOSE
        if command == ["docker-compose"]:  # which supports no project's name
            file = folder / "compose.yaml"
            lines = COMPOSE.read_text().splitlines(keepends=True)
            file.write_text("".join(line for line in lines if not line.startswith("name:")))
        options = ["--file", str(file), "--project-directory", str(COMPOSE.parent), "--project-name", PROJECT]
        self._command = [*command, *options]

    def compose(self, *arguments: str) -> str:
        return self.engine.checked([*self._command, *arguments])

    def up(self) -> None:
        """Start images built before; return once every service is healthy."""
        self.compose("up", "--detach", "--no-build")
        self.wait_healthy("trainer")

    def container(self, service: str) -> str:
        """The id of its container."""
        return self.compose("ps", "--quiet", service).splitlines()[-1]

    def inspect(self, service: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.engine.docker("inspect", self.container(service)))[0]
        return found

    def wait_healthy(self, service: str) -> None:
        wait_until(lambda: self.inspect(service)["State"]["Health"]["Status"] == "healthy", f"{service} is healthy")

    def command(self, *arguments: str) -> str:
        """The output of `labelloop`, run where the published ports are: 127.0.0.1."""
        wide = ("env", "COLUMNS=200")
        return self.engine.checked(self.engine.inside(*wide, sys.executable, "-m", "labelloop_cli", *arguments))


def wait_until(holds: Callable[[], bool], what: str, within_s: float = PATIENCE_S) -> None:
    deadline_s = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline_s, f"not within {within_s:.0f} s: {what}"
        time.sleep(_LOOK_EVERY_S)
