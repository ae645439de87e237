"""Define named points in the code at which tests can kill the process.

``LABELLOOP_CRASH_AT`` names a file. While that contains ``after append model_trained#3``, the process that reaches this
point for the third time removes the file and ends with SIGKILL. The name of a point is ``before`` or ``after`` and an
operation: ``append`` and the kind of the event, ``put`` (an artifact), ``call`` and the method called on another
service, ``serve`` and the method called by a client, ``push`` or ``retract`` (requests, to or from an annotation tool),
or ``keep`` (a dead letter, or a snapshot).
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from contextlib import suppress
from functools import cache
from pathlib import Path

_passed: Counter[str] = Counter()


def crash_point(name: str) -> None:
    """Kill the process if a test requested that for the point ``name``; do nothing otherwise."""
    if file := _file():
        with suppress(FileNotFoundError):  # no crash is requested
            _crash_if_asked(name, Path(file))


@cache
def _file() -> str:
    """Return the file's path, read at the first point and not at import: a forked process has its own environment."""
    return os.environ.get("LABELLOOP_CRASH_AT", "")


def _crash_if_asked(name: str, file: Path) -> None:
    point, _, times = file.read_text().partition("#")
    if point == name:
        _passed[name] += 1
        if _passed[name] >= int(times or 1):
            file.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
