"""Annotators in other languages, which know labelloop by its published schemas and pages alone, as tools of a run."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import playwright
import pytest
from labelloop_cli.local.stack import Stack

from tests.ports import free_port
from tests.queues.webhook_tool import new_secret

FOLDER = Path(__file__).parent
ANNOTATOR = "foreign"
Command = Callable[[str, Path], list[str]]
"""Returns the command that starts an annotator, from its transport and a folder for what it builds."""


def node(transport: str, folder: Path) -> list[str]:
    """Return the command of the annotator in JavaScript; Playwright brings a Node along."""
    beside = Path(playwright.__file__).parent / "driver" / "node"
    binary = shutil.which("node") or (str(beside) if beside.exists() else None)
    if binary is None:
        pytest.skip("there is no node here: apt-get install nodejs")
    return [binary, str(FOLDER / "node" / f"{transport}.js")]


def go(transport: str, folder: Path) -> list[str]:
    """Build the annotator in Go and return its command."""
    if (binary := shutil.which("go")) is None:
        pytest.skip("there is no Go toolchain here: apt-get install golang-go")
    built = folder / "annotator"
    subprocess.run([binary, "build", "-o", built, "."], cwd=FOLDER / "go", check=True)
    return [str(built), transport]


class ForeignTool:
    """An annotator that labels by itself; ``said`` is what it reports of each result.

    Attributes:
        name: The transport, as a run's spec calls the tool.
        http_port: The oracle's port.
        links: Whether it gets each sample as a link, as large ones are sent.
        classes: The class name of each sample, by the SHA-256 of what people see of it; set before ``connect``.
    """

    def __init__(self, name: str, command: Command, folder: Path, http_port: int, *, links: bool) -> None:
        self.name, self._command, self._folder = name, command(name, folder), folder
        self.classes: dict[str, str] = {}
        self.said: list[dict[str, Any]] = []
        self._secret, self._links = new_secret(), links
        self._port, self._oracle = free_port(), f"http://127.0.0.1:{http_port}"
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None

    @property
    def environment(self) -> dict[str, str]:
        links = {"LABELLOOP_HTTP_URL": self._oracle, "LABELLOOP_INLINE_BYTES_MAX": "1"}
        hook = {
            "LABELLOOP_WEBHOOK_URL": f"http://127.0.0.1:{self._port}/hook",
            "LABELLOOP_WEBHOOK_SECRET": self._secret,
        }
        return {**(links if self._links else {}), **(hook if self.name == "webhook" else {})}

    async def begin(self, stack: Stack, run: str) -> None:
        """Start the program for a run."""
        answers = self._folder / "answers.json"
        answers.write_text(json.dumps(self.classes))
        assert stack.broker is not None, "the stack started one"
        places = {"webhook": (str(self._port), self._oracle), "nats": (stack.broker.url, run)}
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            *places[self.name],
            answers,
            ANNOTATOR,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "WEBHOOK_SECRET": self._secret},
        )
        self._reading = asyncio.create_task(self._read(self._process))

    async def connect(self, stack: Stack) -> None:
        """Do nothing: ``begin`` starts the program."""

    async def requests(self) -> list[dict[str, Any]]:
        """Return nothing: the program answers requests itself."""
        return []

    async def answer(self, result: dict[str, Any]) -> None:
        raise AssertionError("the program answers")

    async def go_down(self) -> None:
        """Kill the program, as a crash would."""
        if self._process and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        if self._reading:
            await self._reading

    async def come_back(self) -> None:
        raise AssertionError("begin starts it")

    @property
    def answered(self) -> list[str]:
        """The ids of the requests that it sent results for, in order."""
        return [each["request_id"] for each in self.said if "request_id" in each and "problem" not in each]

    @property
    def verdicts(self) -> list[str]:
        """What it was told of its results, in order."""
        return [each["verdict"] for each in self.said if "verdict" in each]

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None, "a pipe"
        while line := await process.stdout.readline():
            self.said.append(json.loads(line))


@asynccontextmanager
async def foreign_tool(
    name: str, command: Command, folder: Path, http_port: int, *, links: bool
) -> AsyncIterator[ForeignTool]:
    tool = ForeignTool(name, command, folder, http_port, links=links)
    try:
        yield tool
    finally:
        await tool.go_down()
