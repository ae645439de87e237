"""Run the unit tests on each supported Python of this machine: ``python -m environments.matrix``.

The Python of ``.venv`` is left out. Each other one gets an environment below ``out/pythons``; if there is no build of
PyTorch for the CPU, the tests that need it are skipped.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from environments.environment import Choice, set_up
from environments.pythons import find_interpreters, inspect
from environments.uv import SetUpError

FOLDER = Path("out/pythons")


def main() -> int:
    """Return 0 if the tests pass on each Python, else 1."""
    own = inspect(".venv/bin/python")
    others = [each for each in find_interpreters() if own is None or each.version != own.version]
    failed = []
    for interpreter in others:
        venv = FOLDER / interpreter.name.replace(" ", "-").lower()
        print(f"==> unit tests on {interpreter.name}", flush=True)
        try:
            set_up(venv, "test", Choice(interpreter.path, "cpu-or-none"))
        except SetUpError as error:
            print(error, file=sys.stderr)
            failed.append(interpreter.name)
            continue
        command = (str(venv / "bin" / "python"), "-m", "pytest", "--numprocesses", "2", "tests/unit", *sys.argv[1:])
        if subprocess.run(command, check=False).returncode != 0:
            failed.append(interpreter.name)
    print(f"unit tests ran on {', '.join(each.name for each in others) or 'no other Python'}", flush=True)
    if failed:
        print(f"failed on {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
