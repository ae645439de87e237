"""Find or make Triton's load generator: a binary, and the libraries of Debian 13 where glibc is too old for it."""

from __future__ import annotations

import asyncio
import csv
import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from labelloop.errors import Corrupt, WrongState
from platformdirs import user_cache_path

_LOCK = Path(__file__).with_name("perf-analyzer.lock")
_PLATFORM, _GLIBC = "manylinux_2_38_x86_64", (2, 38)
_DEBIAN = "trixie"
_TIMEOUT_S = 600.0


@dataclass(frozen=True)
class Measured:
    """What perf_analyzer measured.

    Attributes:
        rate_s: samples a second.
        p50_ms: median latency of a request.
        p99_ms: its 99th percentile.
    """

    rate_s: float
    p50_ms: float
    p99_ms: float


def find_or_get(cache: Path | None = None) -> list[str]:
    """Return the command, made in the user's cache folder first if missing. WrongState with the reason if it cannot."""
    folder = (cache or user_cache_path("labelloop")) / "clients"
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise WrongState("NOT_INSTALLED", "perf_analyzer is made for Linux on x86-64 alone")
    binary = _binary(folder)
    found = tuple(map(int, platform.libc_ver()[1].split(".")[:2]))
    return [str(binary)] if found >= _GLIBC else [*_loader(folder), str(binary)]


def _binary(folder: Path) -> Path:
    version = re.findall(r"==(\S+)", _LOCK.read_text())[0]
    binary = folder / f"perf_analyzer-{version}"
    if not binary.exists():
        with TemporaryDirectory() as name:
            wanted = ("--require-hashes", "--no-deps", "--platform", _PLATFORM, "--only-binary", ":all:")
            pip = (_python_with_pip(folder), "-m", "pip", "download", "--quiet", "--disable-pip-version-check")
            _must(*pip, *wanted, "--requirement", str(_LOCK), "--dest", name)
            [wheel] = Path(name).glob("*.whl")
            draft = binary.with_suffix(".draft")
            draft.write_bytes(zipfile.ZipFile(wheel).read("perf_analyzer/bin/perf_analyzer"))
        draft.chmod(0o755)
        draft.rename(binary)
    return binary


def _python_with_pip(folder: Path) -> str:
    python = folder / "pip" / "bin" / "python"
    if not python.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _must(sys.executable, "-m", "venv", str(folder / "pip"))
    return str(python)


def _loader(folder: Path) -> list[str]:
    """Return the beginning of a command that runs a program with the libraries of a newer Debian."""
    root = folder / _DEBIAN
    if not root.exists():
        if shutil.which("debootstrap") is None or os.geteuid():
            needed = "glibc 2.38, or debootstrap and root to get it from Debian 13"
            raise WrongState("NOT_INSTALLED", f"perf_analyzer needs {needed}")
        draft = folder / f"{_DEBIAN}.draft"
        shutil.rmtree(draft, ignore_errors=True)
        _must("debootstrap", "--variant=minbase", _DEBIAN, str(draft))
        draft.rename(root)
    libraries = root / "usr" / "lib" / "x86_64-linux-gnu"
    return [str(root / "lib64" / "ld-linux-x86-64.so.2"), "--library-path", str(libraries)]


def _must(*command: str) -> None:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise WrongState("NOT_INSTALLED", f"{command[0]} took over {_TIMEOUT_S:.0f} s") from None
    if done.returncode:
        said = (done.stderr or done.stdout).splitlines()[-2:]
        raise WrongState("NOT_INSTALLED", f"{Path(command[0]).name} cannot provide perf_analyzer: {' '.join(said)}")


async def measured(command: Sequence[str], address: str, model: str, *options: str) -> Measured:
    """Measure a model at ``address``; ``options`` are the program's. Corrupt with what it says if it fails."""
    with TemporaryDirectory() as name:
        file = Path(name) / "figures.csv"
        process = await asyncio.create_subprocess_exec(
            *(*command, "-m", model, "-u", address, "-f", str(file), *options),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            said = (await process.communicate())[0].decode(errors="replace")
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode or not file.exists():
            raise Corrupt("PERF_ANALYZER_FAILED", "perf_analyzer did not do its work; it says:\n" + said)
        [row] = csv.DictReader(file.read_text().splitlines())
    latencies = (float(row[f"{each} latency"]) / 1e3 for each in ("p50", "p99"))
    return Measured(float(row["Inferences/Second"]), *latencies)
