"""Named places at which a test may have the process killed.

``LABELLOOP_CRASH_AT`` names a file; while that holds ``after append model_trained#3``, the process that comes to this
point for the third time removes the file and ends with SIGKILL. Points are named by what the process is about to do or
has just done: ``before`` or ``after``, then ``append`` and the kind of the event, ``put`` (an artifact), ``call`` and
the method asked of another service, or ``serve`` and the method that a client asked for; ``push`` and ``retract`` (of
requests, by a tool), ``keep`` (a dead letter).
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
    """End the process where this is the point that was asked for; else nothing."""
    if file := _file():
        with suppress(FileNotFoundError):  # nothing is asked for
            _crash_if_asked(name, Path(file))


@cache
def _file() -> str:
    """Read at the first point, not at import: a process that was forked has an environment of its own."""
    return os.environ.get("LABELLOOP_CRASH_AT", "")


def _crash_if_asked(name: str, file: Path) -> None:
    point, _, times = file.read_text().partition("#")
    if point == name:
        _passed[name] += 1
        if _passed[name] >= int(times or 1):
            file.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
