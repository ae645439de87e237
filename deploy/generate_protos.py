"""Generates the Python of the contract, or with --check says whether what is committed is what would be generated."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent / "proto"
_GENERATED = "labelloop/*/v[0-9]/*_pb2*.py*"


def generated() -> dict[str, bytes]:
    """What the protos say, by path under ``proto``. Raises CalledProcessError; the compiler has said why."""
    protos = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("labelloop/*/v[0-9]/*.proto"))
    plugins = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    with tempfile.TemporaryDirectory() as folder:
        outputs = [f"--python_out={folder}", f"--grpc_python_out={folder}"]
        stubs = [f"--mypy_out=quiet:{folder}", f"--mypy_grpc_out=quiet:{folder}"]
        command = [sys.executable, "-m", "grpc_tools.protoc", "-I.", *outputs, *stubs, *protos]
        subprocess.run(command, check=True, cwd=ROOT, env=plugins)
        return _files(Path(folder))


def committed() -> dict[str, bytes]:
    """What stands in ``proto``, by path under it."""
    return _files(ROOT)


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.glob(_GENERATED)}


def main() -> None:
    wanted, standing = generated(), committed()
    stale = sorted(name for name in wanted.keys() | standing.keys() if wanted.get(name) != standing.get(name))
    if sys.argv[1:] == ["--check"]:
        if stale:
            sys.exit(f"generated code is not what the protos say; run `make proto`: {', '.join(stale)}")
        return
    for name in stale:
        if name in wanted:
            (ROOT / name).write_bytes(wanted[name])
        else:  # its proto is gone
            (ROOT / name).unlink()
        print(f"proto/{name}")


if __name__ == "__main__":
    main()
