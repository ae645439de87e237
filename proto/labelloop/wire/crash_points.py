"""Named places at which a test may have the process killed: ``LABELLOOP_CRASH_AT="after append model_trained#3"``.

Points are named by what the process is about to do or has just done: ``before`` or ``after``, then ``append`` and the
kind of the event, ``put`` (an artifact), ``call`` and the method asked of another service, or ``serve`` and the method
that a client asked for. ``#3`` waits for the third time.
"""

from __future__ import annotations

import os
import signal

_ASKED, _, _TIMES = os.environ.get("LABELLOOP_CRASH_AT", "").partition("#")
_left = int(_TIMES or 1)


def crash_point(name: str) -> None:
    """End the process with SIGKILL where this is the point that was asked for; else nothing."""
    global _left
    if name == _ASKED:
        _left -= 1
        if not _left:
            os.kill(os.getpid(), signal.SIGKILL)
