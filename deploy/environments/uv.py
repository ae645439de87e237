"""Run uv, the installer, which pip downloads once into a folder of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from threading import Timer

FOLDER = Path(".uv")
LOCK = Path("deploy/environments/uv.lock")
_HEARTBEAT_S = 8
_SHOWN = ("Downloading", "Building", "Resolved", "Prepared", "Installed", "error", "warning", "hint")


class SetUpError(Exception):
    """Set-up cannot continue; the message gives the reason and, if known, the remedy."""


class Step:
    """Print what a step does, how long it takes, and a line at least every ten seconds while it runs."""

    def __init__(self, name: str) -> None:
        self._name, self._begun = name, time.monotonic()
        print(f"  {name}", flush=True)
        self._wait()

    def _wait(self) -> None:
        self._timer = Timer(_HEARTBEAT_S, self._beat)
        self._timer.daemon = True
        self._timer.start()

    def _beat(self) -> None:
        self.say(f"still at work, {self.elapsed_s:.0f} s")

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._begun

    def say(self, line: str) -> None:
        """Print ``line`` below the step's name and restart the heartbeat timer."""
        self._timer.cancel()
        print(f"      {line}", flush=True)
        self._wait()

    def __enter__(self) -> Step:
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        print(f"      {self.elapsed_s:.1f} s", flush=True)


def ensure_uv() -> Path:
    """Return uv's executable, after installing the locked version into FOLDER if it is not there yet.

    Raises:
        SetUpError: If this Python has neither pip nor venv, or if pip cannot install uv.
    """
    marker = FOLDER / "installed.lock"
    if not marker.exists() or marker.read_bytes() != LOCK.read_bytes():
        with Step("uv, the installer") as step:
            shutil.rmtree(FOLDER, ignore_errors=True)
            wanted = ("--require-hashes", "--only-binary", ":all:", "--requirement", str(LOCK))
            run((*pip(), "install", "--quiet", *wanted, "--target", str(FOLDER / "uv")), step.say)
            marker.write_bytes(LOCK.read_bytes())
    return FOLDER / "uv" / "bin" / "uv"


def pip() -> tuple[str, ...]:
    """Return the command of a pip that reads this machine's configuration: this Python's own, or one made in FOLDER.

    Raises:
        SetUpError: If this Python has no pip and cannot make an environment with one.
    """
    own = (sys.executable, "-m", "pip")
    if not find_spec("pip"):
        own = (str(FOLDER / "pip" / "bin" / "python"), "-m", "pip")
        if not Path(own[0]).exists():
            if not find_spec("ensurepip"):
                raise SetUpError(f"{sys.executable} has no pip: install one (Debian: apt install python3-pip)")
            run((sys.executable, "-m", "venv", str(FOLDER / "pip")))
    return (*own, "--disable-pip-version-check", "--no-input")


def run(command: Sequence[str], say: Callable[[str], None] = print) -> None:
    """Run ``command`` and pass the lines that show its progress to ``say``.

    Raises:
        SetUpError: If it fails; the message has the last 40 lines of its output.
    """
    environment = {**os.environ, "UV_NO_PROGRESS": "1", "UV_PYTHON_DOWNLOADS": "never"}
    environment.pop("VIRTUAL_ENV", None)
    lines = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if line.strip().startswith(_SHOWN):
                say(line.strip())
    if process.returncode != 0:
        raise SetUpError(f"{Path(command[0]).name} failed:\n{''.join(lines[-40:])}")
