"""Leave the project's name and version beside its packages, where importlib.metadata looks:
``python dist_info.py PYPROJECT FOLDER``."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path


def main(pyproject: Path, folder: Path) -> None:
    project = tomllib.loads(pyproject.read_text())["project"]
    info = folder / f"{project['name']}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
