"""A virtual environment for each peer, kept in the user's cache."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from labelloop.errors import WrongState
from platformdirs import user_cache_path

_INSTALL_TIMEOUT_S = 600.0
_PIP = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--root-user-action", "ignore")


def python_of(name: str, requirements: tuple[str, ...]) -> Path:
    """The Python that has ``requirements``, installed first if missing. WrongState with pip's reason."""
    folder = user_cache_path("labelloop") / "bench" / name
    python, stamp = folder / "bin" / "python", folder / "installed.txt"
    wanted = "\n".join(requirements)
    if not stamp.exists() or stamp.read_text() != wanted:
        stamp.unlink(missing_ok=True)
        _must(name, (sys.executable, "-m", "venv", "--clear", str(folder)))
        _must(name, (str(python), *_PIP, *requirements))
        stamp.write_text(wanted)
    return python


def same_onnxruntime() -> str:
    """A requirement for the installed ONNX Runtime."""
    return f"onnxruntime=={version('onnxruntime')}"


def _must(name: str, command: tuple[str, ...]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise WrongState("NOT_INSTALLED", f"installing it took over {_INSTALL_TIMEOUT_S:.0f} s", peer=name) from None
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        raise WrongState("NOT_INSTALLED", f"pip could not install it: {' '.join(errors[-2:])}", peer=name)
