"""A virtual environment for each peer, kept in the user's cache."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from labelloop.errors import WrongState
from platformdirs import user_cache_path

_INSTALL_TIMEOUT_S = 600.0
_QUIET = ("--quiet", "--disable-pip-version-check", "--no-input")
_INSTALL = ("-m", "pip", "install", *_QUIET, "--root-user-action", "ignore")
_DOWNLOAD = ("-m", "pip", "download", *_QUIET, "--no-deps", "--only-binary", ":all:")


def python_of(name: str, requirements: tuple[str, ...]) -> Path:
    """The Python that has ``requirements``, installed first if missing. WrongState with pip's reason."""
    folder = user_cache_path("labelloop") / "bench" / name
    python, stamp = folder / "bin" / "python", folder / "installed.txt"
    wanted = "\n".join(requirements)
    if not stamp.exists() or stamp.read_text() != wanted:
        stamp.unlink(missing_ok=True)
        _must(name, (sys.executable, "-m", "venv", "--clear", str(folder)))
        _must(name, (str(python), *_INSTALL, *requirements))
        stamp.write_text(wanted)
    return python


def wheel_of(name: str, version: str) -> Path:
    """The wheel of a package, downloaded first if missing, without what it depends on. WrongState with pip's reason."""
    folder = user_cache_path("labelloop") / "bench" / "wheels"
    pattern = f"{name.replace('-', '_')}-{version}-*.whl"
    if not list(folder.glob(pattern)):
        pip = python_of("downloads", ("pip",))  # this environment may lack it
        _must(name, (str(pip), *_DOWNLOAD, "--dest", str(folder), f"{name}=={version}"))
    return next(folder.glob(pattern))


def same_onnxruntime() -> str:
    """A requirement for the installed ONNX Runtime."""
    return f"onnxruntime=={version('onnxruntime')}"


def _must(name: str, command: tuple[str, ...]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise WrongState("NOT_INSTALLED", f"pip took over {_INSTALL_TIMEOUT_S:.0f} s", peer=name) from None
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        raise WrongState("NOT_INSTALLED", f"pip cannot provide it: {' '.join(errors[-2:])}", peer=name)
