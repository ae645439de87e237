"""Run a local nats-server with JetStream on the loopback interface, for as long as the command runs."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import structlog
from labelloop.errors import LabelloopError, WrongState

from labelloop_cli.local.end_with_parent import ended_with_us
from labelloop_cli.local.nats.port import HOST, check_free, greets, port_in_use
from labelloop_cli.local.nats.store import NatsStore

_START_WITHIN_S = 60.0  # reading a large store back takes a while
_STOP_WITHIN_S = 10.0
_LOOK_EVERY_S = 0.02

log = structlog.get_logger()


class NatsServer:
    """A nats-server process over the data in ``store_dir``, on ``port`` (0: any free one, known once started).

    With ``for_us`` it ends when this process is killed, where the system can do so.

    ``start`` after ``stop``, or after the server died, starts another over the same data on the same port.
    """

    def __init__(self, binary: Path, store_dir: Path, *, port: int = 0, for_us: bool = False) -> None:
        self.binary, self._for_us = binary, for_us
        self.store = NatsStore(store_dir)
        self.port = port
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False

    @property
    def url(self) -> str:
        return f"nats://{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "pid follows start"
        return self._process.pid

    async def start(self) -> None:
        """Start the server and return once it answers clients. Raises WrongState, with the end of its log if useful."""
        self._process, self._stopping = await self._spawned(), False
        try:
            async with asyncio.timeout(_START_WITHIN_S):
                self.port = await self._answering(self._process)
        except TimeoutError:
            await self.stop()
            raise self._failed(f"did not answer within {_START_WITHIN_S:.0f} s") from None
        except BaseException:
            await self.stop()
            raise

    async def stop(self, *, within_s: float = _STOP_WITHIN_S) -> None:
        """Stop the server, by force after ``within_s``. Returns when it is gone; safe to call at any time."""
        process, self._stopping = self._process, True
        if process is None or process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(within_s):
                await process.wait()
        except TimeoutError:
            log.warning("nats_server_killed", pid=process.pid)
        finally:  # also if cancelled while waiting: nothing may be left running
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()

    async def wait(self) -> None:
        """Wait until ``stop`` has ended the server. Raises WrongState if it ends by itself."""
        assert self._process is not None, "wait follows start"
        await self._process.wait()
        if not self._stopping:
            raise self._failed(f"ended by itself (exit code {self._process.returncode})")

    async def __aenter__(self) -> NatsServer:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _spawned(self) -> asyncio.subprocess.Process:
        store = self.store
        with store.claim() as lock, store.log_file.open("ab") as output:
            if self.port:
                check_free(self.port)  # before the server reads the store back only to find that it cannot listen
            try:
                binary = [str(self.binary.absolute())]
                return await asyncio.create_subprocess_exec(
                    *(ended_with_us(binary) if self._for_us else binary),
                    *("--addr", HOST, "--port", str(self.port or -1)),
                    *("--jetstream", "--store_dir", store.folder),
                    *("--config", store.config_file, "--pid", store.pid_file, "--ports_file_dir", store.folder),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    pass_fds=(lock.fileno(),),  # keeps the store locked until the server is gone, even if we end first
                    start_new_session=True,  # Ctrl-C must not reach the server: the services drain first
                )
            except OSError as error:
                raise WrongState("NATS_SERVER_FAILED", f"{self.binary} does not run: {error}") from error

    async def _answering(self, process: asyncio.subprocess.Process) -> int:
        while True:
            if process.returncode is not None:
                raise self._failed(f"ended at once (exit code {process.returncode})")
            # The port is read from this server's own file, so that no other server is taken for it.
            port = self.store.port(process.pid)
            if port and await greets(port):
                return port
            await asyncio.sleep(_LOOK_EVERY_S)

    def _failed(self, how: str) -> LabelloopError:
        tail = self.store.log_tail()
        if "address already in use" in tail:
            return port_in_use(self.port)
        message = f"nats-server ({self.binary}) {how}; the end of {self.store.log_file}:\n{tail}"
        return WrongState("NATS_SERVER_FAILED", message, binary=self.binary, log_file=self.store.log_file)
