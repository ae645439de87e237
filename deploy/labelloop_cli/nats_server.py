"""A nats-server of our own, with JetStream, as a child process on loopback."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path
from types import TracebackType

from labelloop.wire.errors import WrongState

_START_TIMEOUT_S = 15.0
_STOP_TIMEOUT_S = 10.0
_TAIL_LINES = 5


class NatsServer:
    """``async with NatsServer(binary, store) as server: server.url``. Port 0 takes any free port; ``store`` keeps
    what JetStream holds, so that the next server on it goes on where this one stopped."""

    def __init__(self, binary: Path, store: Path, *, port: int = 0) -> None:
        self._binary, self._store, self._port = binary, store, port
        self.process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self._port}"

    @property
    def log_file(self) -> Path:
        return self._store / "nats-server.log"

    async def start(self) -> None:
        """Return once the server answers. WrongState where the port is taken or the server will not run."""
        self._store.mkdir(parents=True, exist_ok=True)
        for old in self._store.glob("*.ports"):
            old.unlink()
        if self._port and _answers(self._port):
            message = f"port {self._port} is in use; choose another for the broker, or let it take any free one"
            raise WrongState("PORT_IN_USE", message, port=self._port)
        with self.log_file.open("ab") as output:
            self.process = await asyncio.create_subprocess_exec(
                self._binary,
                *("-js", "-sd", self._store, "-a", "127.0.0.1", "-p", str(self._port or -1)),
                *("--ports_file_dir", self._store),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # a Ctrl-C in the terminal must not end the broker before the services
            )
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                while not self._listening():
                    if self.process.returncode is not None:
                        raise self._failed("ended at once")
                    await asyncio.sleep(0.02)
        except TimeoutError:
            await self.stop()
            raise self._failed(f"did not answer within {_START_TIMEOUT_S:.0f} s") from None

    def _listening(self) -> bool:
        """Whether the server has named its port and answers there."""
        for file in self._store.glob("*.ports"):
            try:
                urls = json.loads(file.read_text())["nats"]
            except ValueError:  # half written
                return False
            self._port = int(urls[0].rsplit(":", 1)[1])
            return _answers(self._port)
        return False

    def _failed(self, how: str) -> WrongState:
        tail = "\n  ".join(self.log_file.read_text(errors="replace").splitlines()[-_TAIL_LINES:])
        return WrongState("BROKER_FAILED", f"nats-server {how}; the end of {self.log_file}:\n  {tail}")

    async def stop(self) -> None:
        process = self.process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), _STOP_TIMEOUT_S)
        except TimeoutError:
            process.kill()
            await process.wait()

    async def __aenter__(self) -> NatsServer:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


def _answers(port: int) -> bool:
    """Whether a NATS server, or anything else that listens, is there."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0
