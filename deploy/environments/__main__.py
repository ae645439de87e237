"""Make ``.venv`` and install what a command of the Makefile needs: ``python -m environments GROUP``.

Versions and hashes are those of requirements.lock.
"""

from __future__ import annotations

import argparse
import fcntl
import sys
from pathlib import Path

from environments.environment import BUILDS, GROUPS, PROJECT, Choice, set_up
from environments.uv import SetUpError


def main() -> int:
    """Return 0 when the environment is complete, 1 when set-up fails, with the reason printed."""
    parser = argparse.ArgumentParser(prog="environments", description=__doc__)
    parser.add_argument("group", choices=GROUPS)
    parser.add_argument("--venv", type=Path, default=Path(".venv"), help="the folder to make (default: .venv)")
    parser.add_argument("--python", default="", help="the interpreter to use (default: the newest that is supported)")
    parser.add_argument("--torch", choices=BUILDS, default="", help="the build of PyTorch (default: cpu)")
    options = parser.parse_args()
    try:
        with PROJECT.open() as lock:
            wait_for_turn(lock.fileno())
            set_up(options.venv, options.group, Choice(options.python, options.torch))
    except SetUpError as error:
        print(f"set-up failed: {error}", file=sys.stderr)
        return 1
    return 0


def wait_for_turn(file: int) -> None:
    """Lock ``file`` until it is closed, so that two commands started together do not write to one environment."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("waiting for another set-up to end")
        fcntl.flock(file, fcntl.LOCK_EX)


if __name__ == "__main__":
    sys.exit(main())
