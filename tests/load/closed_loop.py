"""Locust in a process of its own, since it replaces Python's blocking calls for its whole process."""

from __future__ import annotations

import asyncio
import os
import pickle
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from labelloop.errors import WrongState
from labelloop.runtime.process import until_signal_or_end
from labelloop_cli.load.calls import Calls, Outcomes

USERS = 8
_FILE = Path(__file__).with_name("locustfile.py")
_ROOT = _FILE.parents[2]


async def closed_loop(address: str, name: str, calls: Calls, seconds: float) -> Outcomes:
    """Return the outcomes of :data:`USERS` users in ``seconds``. Raise WrongState if Locust ended early."""
    with TemporaryDirectory() as folder:
        left = Path(folder) / "outcomes"
        words = ("--headless", "-u", str(USERS), "-r", str(USERS), "-t", f"{seconds:.0f}s", "--stop-timeout", "10")
        process = await _locust(address, {name: calls}, Path(folder), left, *words, "--only-summary")
        try:
            said = (await process.communicate())[0].decode(errors="replace")
        finally:
            await _end(process)
        if not left.exists():
            message = "Locust ended before its time; it says:\n" + "\n".join(said.splitlines()[-5:])
            raise WrongState("LOCUST_FAILED", message)
        outcomes: dict[str, Outcomes] = pickle.loads(left.read_bytes())
        return outcomes[name]


async def web_page(address: str, plan: dict[str, Calls], port: int) -> dict[str, Outcomes]:
    """Run Locust with its page on this machine until SIGINT or SIGTERM, and return outcomes by scenario."""
    with TemporaryDirectory() as folder:
        left = Path(folder) / "outcomes"
        words = ("--web-host", "127.0.0.1", "--web-port", str(port), "-u", str(USERS), "-r", str(USERS))
        process = await _locust(address, plan, Path(folder), left, *words, output=None)
        try:
            await until_signal_or_end(_ended(process))
        finally:
            await _end(process)
        outcomes: dict[str, Outcomes] = pickle.loads(left.read_bytes()) if left.exists() else {}
        return outcomes


async def _ended(process: asyncio.subprocess.Process) -> None:
    await process.wait()


async def _end(process: asyncio.subprocess.Process) -> None:
    """End Locust if it still runs: Ctrl-C in a terminal reaches it too, a signal to this process does not."""
    if process.returncode is None:
        process.terminate()
        await process.wait()


async def _locust(
    address: str,
    plan: dict[str, Calls],
    folder: Path,
    left: Path,
    *words: str,
    output: int | None = asyncio.subprocess.PIPE,
) -> asyncio.subprocess.Process:
    (folder / "plan").write_bytes(pickle.dumps(plan))
    told = {"LOAD_PLAN": str(folder / "plan"), "LOAD_ADDRESS": address, "LOAD_OUTCOMES": str(left)}
    command = (sys.executable, "-m", "locust", "-f", str(_FILE), "--loglevel", "WARNING", *words)
    return await asyncio.create_subprocess_exec(
        *command, cwd=_ROOT, env={**os.environ, **told}, stdout=output, stderr=output and asyncio.subprocess.STDOUT
    )
