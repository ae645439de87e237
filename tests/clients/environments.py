"""Virtual environments of other projects' clients, kept in the user's cache."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from filelock import FileLock
from labelloop.errors import WrongState
from platformdirs import user_cache_path

LOCKS = Path(__file__).parent
_PIP = ("-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input")
_INSTALL_TIMEOUT_S = 600.0


def folder() -> Path:
    """Return where clients are kept."""
    return user_cache_path("labelloop") / "clients"


def python_with(client: str) -> Path:
    """Return a Python that has what the lock of ``client`` names, installed first if missing.

    Raises:
        WrongState: With pip's reason, if it cannot be installed.
    """
    lock = LOCKS / f"{client}.lock"
    environment = folder() / f"{client}-{sys.version_info.major}.{sys.version_info.minor}"
    python, stamp = environment / "bin" / "python", environment / "installed.lock"
    with one_at_a_time():
        if not stamp.exists() or stamp.read_bytes() != lock.read_bytes():
            stamp.unlink(missing_ok=True)
            _must(client, sys.executable, "-m", "venv", "--clear", str(environment))
            wanted = ("--require-hashes", "--only-binary", ":all:", "--requirement", str(lock))
            _must(client, str(python), *_PIP, "install", *wanted)
            stamp.write_bytes(lock.read_bytes())
    return python


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Keep other processes that run tests from making the same environment meanwhile."""
    folder().mkdir(parents=True, exist_ok=True)
    with FileLock(folder() / "lock"):
        yield


async def program_of(client: str) -> Path:
    """Return the Python of a client, as :func:`python_with` does; skip the test if it cannot be installed."""
    try:
        return await asyncio.to_thread(python_with, client)
    except WrongState as error:
        pytest.skip(error.message)


def _must(client: str, *command: str) -> None:
    """Run a command; raise WrongState with the end of what it says if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_TIMEOUT_S, check=False)
    except (subprocess.TimeoutExpired, OSError) as error:
        raise WrongState("NOT_INSTALLED", f"{client} cannot be installed: {error}", client=client) from error
    if done.returncode:
        said = [
            line for line in done.stderr.splitlines() if line.startswith(("ERROR", "E:"))
        ] or done.stderr.splitlines()
        raise WrongState("NOT_INSTALLED", f"{client} cannot be installed: {' '.join(said[-2:])}", client=client)


async def said_by(*command: str | Path) -> str:
    """Run a program to its end and return what it says; AssertionError with that if it fails."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        said = (await process.communicate())[0].decode(errors="replace")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, said
    return said
