"""Find the Python interpreters of this machine that labelloop supports."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SUPPORTED = ((3, 14), (3, 13), (3, 12), (3, 11))
"""Supported versions, newest first; the same as ``requires-python`` in pyproject.toml."""

_FOLDERS = ("~/.pyenv/versions/{0}.*/bin", "~/.local/share/uv/python/cpython-{0}.*/bin")
_PROBE = "import sys; print(sys.implementation.name, *sys.version_info[:2], sys.executable, sep='\\n')"


@dataclass(frozen=True)
class Interpreter:
    """One CPython.

    Attributes:
        path: Its executable.
        version: Major and minor number.
    """

    path: str
    version: tuple[int, int]

    @property
    def name(self) -> str:
        return "Python " + ".".join(map(str, self.version))


def find_interpreters() -> list[Interpreter]:
    """Find one interpreter for each supported version, newest version first.

    Searches the PATH, the running Python, and the folders of pyenv and uv. Each candidate is started once,
    because pyenv leaves commands on the PATH that do not run.
    """
    found: dict[tuple[int, int], Interpreter] = {}
    for version in SUPPORTED:
        for path in _candidates(version):
            interpreter = inspect(path)
            if interpreter and interpreter.version == version:
                found[version] = interpreter
                break
    return [found[version] for version in SUPPORTED if version in found]


def inspect(path: str) -> Interpreter | None:
    """Run the program at ``path`` and identify it; None if it is no CPython or does not run."""
    try:
        done = subprocess.run((path, "-c", _PROBE), capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode != 0:
        return None
    name, major, minor, executable = done.stdout.splitlines()
    return Interpreter(executable, (int(major), int(minor))) if name == "cpython" else None


def _candidates(version: tuple[int, int]) -> Iterator[str]:
    text = ".".join(map(str, version))
    for command in (f"python{text}", "python3"):
        if path := shutil.which(command):
            yield path
    if sys.version_info[:2] == version:
        yield sys.executable
    for pattern in _FOLDERS:
        folder = Path(pattern.format(text)).expanduser()
        root = folder.parents[1]
        yield from map(str, sorted(root.glob(f"{folder.parent.name}/bin/python{text}"), reverse=True))
