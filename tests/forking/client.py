"""Fork services, in place of :func:`labelloop_cli.local.stack.launch`."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from threading import Thread
from typing import BinaryIO, cast

from labelloop_cli.local.stack import launch

from tests.forking.server import REQUEST_BYTES_MAX


class ForkedProcess:
    """The part of :class:`asyncio.subprocess.Process` that services need."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.ended: Future[int] = Future()

    @property
    def returncode(self) -> int | None:
        return self.ended.result() if self.ended.done() else None

    async def wait(self) -> int:
        return await asyncio.shield(asyncio.wrap_future(self.ended))

    def send_signal(self, number: int) -> None:
        if not self.ended.done():
            with suppress(ProcessLookupError):  # it has ended, and the notice will arrive
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class ForkServer:
    """The process that forks, started at the first request; close it at the end."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._asked: deque[Future[ForkedProcess]] = deque()
        self._alive: dict[int, ForkedProcess] = {}

    async def launch(self, module: str, environment: Mapping[str, str], output: BinaryIO) -> asyncio.subprocess.Process:
        """Fork a service, unless the test sets other variables than our settings: the interpreter or a library may read
        those when it is loaded. Variables that libraries set in this process on import do not count."""
        given = {name for name, value in environment.items() if os.environ.get(name) != value}
        if not all(name.startswith("LABELLOOP_") for name in given):
            return await launch(module, environment, output)
        request = json.dumps({"module": module, "environment": dict(environment)}).encode()
        assert len(request) < REQUEST_BYTES_MAX
        answer: Future[ForkedProcess] = Future()
        if self._process is None:
            self._start()
        self._asked.append(answer)
        socket.send_fds(self._requests, [request], [output.fileno()])
        return cast(asyncio.subprocess.Process, await asyncio.wrap_future(answer))

    def _start(self) -> None:
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-m", "tests.forking.server", str(theirs.fileno())]
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], start_new_session=True)
        self._listener = Thread(target=self._listen, name="forked processes")
        self._listener.start()

    def _listen(self) -> None:
        while message := self._requests.recv(REQUEST_BYTES_MAX):
            told = json.loads(message)
            if "code" in told:
                self._alive.pop(told["pid"]).ended.set_result(told["code"])
                continue
            process = self._alive[told["pid"]] = ForkedProcess(told["pid"])
            answer = self._asked.popleft()
            if answer.set_running_or_notify_cancel():
                answer.set_result(process)
            else:
                process.kill()  # the start was cancelled meanwhile
        ended = RuntimeError("the process that forks services has ended: see what it printed")
        for answer in self._asked:
            if answer.set_running_or_notify_cancel():
                answer.set_exception(ended)
        for process in self._alive.values():
            process.ended.set_exception(ended)

    def close(self) -> None:
        if self._process:
            self._requests.shutdown(socket.SHUT_WR)
            self._process.wait()
            self._listener.join()
            self._requests.close()
