"""Start a command that the kernel ends when the process that started it is gone, even killed.

Otherwise what a killed ``labelloop up`` had started would keep the ports and the store, and the next start would fail.
Only Linux can do so; elsewhere the command is started as it is.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

# PR_SET_PDEATHSIG is 1, and the setting outlasts exec. SIGKILL, so that ports and store are free at once: services lose
# nothing by a crash. The parent may have ended before the setting holds.
_SCRIPT = """\
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


def ended_with_us(command: Sequence[str]) -> list[str]:
    """Return a command that runs ``command``, whose first part is a path, for as long as the calling thread lives."""
    if sys.platform != "linux":
        return [*command]
    return [sys.executable, "-I", "-S", "-c", _SCRIPT, str(os.getpid()), *command]
