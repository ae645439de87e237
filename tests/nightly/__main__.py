"""``python -m tests.nightly [WORD ...]``: run tests that take too long for each change, one part after the other.

Each part that passes is recorded in tests/nightly/passed.toml: commit that file. ``--list`` runs nothing.
"""

from __future__ import annotations

import argparse
import datetime
import os
import subprocess
import sys
import time
from pathlib import Path

from tests.nightly import passed
from tests.nightly.parts import PARTS, Part, chosen

ROOT = Path(__file__).parents[2]


def main() -> int:
    """Run the chosen parts. Return 1 if one failed, 0 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m tests.nightly", description=__doc__)
    parser.add_argument("words", nargs="*", help="only parts whose name holds one of these")
    parser.add_argument("--list", action="store_true", help="only say when each part last passed")
    parser.add_argument("--file", type=Path, default=passed.FILE, help="where that is kept (default: %(default)s)")
    options = parser.parse_args()
    try:
        parts = chosen(" ".join(options.words))
    except ValueError as error:
        parser.error(str(error))
    failed = [] if options.list else [part.name for part in parts if not run(part, options.file)]
    print(passed.table([part.name for part in PARTS], passed.read(options.file), datetime.date.today()))
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


def run(part: Part, file: Path) -> bool:
    """Run a part, show its output, and record it if it passes. Return whether it did."""
    print(f"==> {part.name}: {' '.join(part.command)}", flush=True)
    commit = commit_of(ROOT)
    begin = time.monotonic()
    if subprocess.run(part.command, cwd=ROOT, env={**os.environ, **part.environment}, check=False).returncode:
        return False
    seconds = round(time.monotonic() - begin)
    made = passed.Passed(date=datetime.date.today(), commit=commit, seconds=seconds)
    passed.write(file, {**passed.read(file), part.name: made})
    return True


def commit_of(repository: Path) -> str:
    """Return the commit that is checked out, with ``+`` appended if tracked files differ from it, other than the
    record of passes."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=repository, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", f":(exclude,glob)**/{passed.FILE.name}")
    return git("rev-parse", "HEAD") + ("+" if changed else "")


if __name__ == "__main__":
    sys.exit(main())
