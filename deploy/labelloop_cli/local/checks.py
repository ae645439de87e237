"""Check this machine for what labelloop needs, without importing libraries: all checks take well under a second."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import util
from pathlib import Path

from labelloop.errors import InvalidInput

from labelloop_cli.extras import OPTIONAL, SERVICES, Extras
from labelloop_cli.local.host import Host
from labelloop_cli.local.nats.binary import WAYS_IN, find

PRODUCTION_FLOOR = (2, 12, 7)
DISK_NEEDED_BYTES = 1_000_000_000
PYTHON_MIN, PYTHON_MAX = (3, 11), (3, 14)
_TORCH_CPU = "https://download.pytorch.org/whl/cpu"
_MNIST = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


@dataclass(frozen=True)
class Check:
    """Result of one check.

    Attributes:
        ok: False if something is missing that labelloop cannot do without.
        advice: Empty if there is nothing to do.
    """

    name: str
    ok: bool
    found: str
    advice: str = ""


def python_check(version: tuple[int, int] = sys.version_info[:2]) -> Check:
    ok = PYTHON_MIN <= version <= PYTHON_MAX
    lowest, highest = (".".join(map(str, each)) for each in (PYTHON_MIN, PYTHON_MAX))
    return Check("Python", ok, ".".join(map(str, version)), "" if ok else f"use Python {lowest} to {highest}")


def command_check(extras: Extras) -> Check:
    """Check whether the libraries of the command are installed."""
    return _libraries("command", extras.missing(), extras.advice())


def extra_checks(extras: Extras) -> list[Check]:
    """Check whether the libraries of the command, of each service and of optional features are installed."""
    found = [command_check(extras)]
    found += [_libraries(service, extras.missing(service), extras.advice(service)) for service in SERVICES]
    for extra, gives in OPTIONAL.items():
        if not extras.knows(extra):
            found.append(Check(extra, True, "unknown to this installation", f"{gives}: install labelloop again"))
        elif missing := extras.missing(extra):
            advice = f"{gives}: pip install 'labelloop[{extra}]'"
            found.append(Check(extra, True, f"optional, not installed: {', '.join(missing)}", advice))
        else:
            found.append(Check(extra, True, "installed"))
    return found


def _libraries(name: str, missing: Sequence[str], advice: str) -> Check:
    if missing:
        return Check(name, False, f"libraries missing: {', '.join(missing)}", advice)
    return Check(name, True, "libraries installed")


def torch_check(extras: Extras) -> Check:
    """Check whether torch is installed and built for the CPU, from its files: importing it takes seconds."""
    spec = util.find_spec("torch")
    if spec is None or spec.origin is None:
        return Check("torch", False, "not installed", extras.advice("trainer"))
    text = (Path(spec.origin).parent / "version.py").read_text()
    version = re.search(r"^__version__ = '(.+)'", text, re.MULTILINE)
    cuda = re.search(r"^cuda\b.*= '(.+)'", text, re.MULTILINE)
    found = version.group(1) if version else "version unknown"
    if cuda:
        advice = "the CPU build suffices and is gigabytes smaller: " + (
            "remove .venv and run `make setup`" if extras.checkout else f"pip install torch --index-url {_TORCH_CPU}"
        )
        return Check("torch", True, f"{found}, made for CUDA {cuda.group(1)}", advice)
    return Check("torch", True, found)


def nats_check(cache_dir: Path, host: Host) -> Check:
    try:
        path = find(cache_dir, host)
    except InvalidInput as error:
        return Check("nats-server", False, "not where it is said to be", str(error))
    if path is None:
        return Check("nats-server", False, "not found", f"`labelloop up` tries to get it; or {WAYS_IN}")
    try:
        said = host.run((str(path), "--version"), Path.cwd()).stdout.strip()
    except (OSError, subprocess.SubprocessError) as error:
        return Check("nats-server", False, f"{path} does not run: {error}", WAYS_IN)
    version = re.search(r"v(\d+)\.(\d+)\.(\d+)", said)
    if version is None:
        return Check("nats-server", False, f"{path} says {said!r}", WAYS_IN)
    old = tuple(map(int, version.groups())) < PRODUCTION_FLOOR
    advice = "good for trying things out; production wants v2.12.7 or newer" if old else ""
    return Check("nats-server", True, f"{version.group()} at {path}", advice)


def mnist_check(cache_dir: Path, data_dir: Path | None) -> Check:
    """Check whether MNIST's four files are in one of the folders that are searched for them."""
    given = [data_dir, data_dir / "mnist"] if data_dir else []
    for folder in [*given, cache_dir / "mnist"]:
        count = sum(1 for name in _MNIST if (folder / name).is_file() or (folder / f"{name}.gz").is_file())
        if count == len(_MNIST):
            return Check("MNIST", True, f"at {folder}")
        if count and folder in given:
            advice = "add the others, or remove these to have MNIST downloaded"
            return Check("MNIST", False, f"{count} of {len(_MNIST)} files at {folder}", advice)
    advice = "will be downloaded; LABELLOOP_DATA_DIR names a copy; without either, the extra `digits` stands in"
    return Check("MNIST", True, "not here yet", advice)


def disk_check(store_dir: Path, needed_bytes: int = DISK_NEEDED_BYTES) -> Check:
    """Check whether the disk that ``store_dir`` is or will be on has room."""
    folder = next(path for path in (store_dir.absolute(), *store_dir.absolute().parents) if path.exists())
    free_bytes = shutil.disk_usage(folder).free
    ok = free_bytes >= needed_bytes
    advice = "" if ok else f"free {needed_bytes / 1e9:.0f} GB, or keep the data on another disk"
    return Check("disk", ok, f"{free_bytes / 1e9:.1f} GB free at {folder}", advice)


def port_check(host: str = "127.0.0.1") -> Check:
    """Check whether a service can listen on the loopback interface at all."""
    try:
        with socket.socket() as probe:
            probe.bind((host, 0))
    except OSError as error:
        return Check("loopback", False, f"cannot listen on {host}: {error}", "let programs listen on the loopback")
    return Check("loopback", True, f"ports are free on {host}")
