"""Run several scorers on one port, a process each; the kernel distributes connections among them (SO_REUSEPORT)."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import structlog
from labelloop.errors import WrongState, port_in_use
from labelloop.rpc.health import Probes
from labelloop.rpc.server import write_whole
from prometheus_client.multiprocess import mark_process_dead

from scorer_svc.config import ScorerSettings
from scorer_svc.metrics import show_workers

_LEAVES_WITHIN_S = 2.0
_OUR_PORTS = {"LABELLOOP_METRICS_PORT", "LABELLOOP_HEALTH_PORT"}

log = structlog.get_logger()


async def supervise(settings: ScorerSettings) -> None:
    """Keep ``workers`` scorers running until cancelled, then drain them.

    WrongState if the port is taken, or if a worker ends before it is ready.
    """
    with ExitStack() as held:
        folder = held.enter_context(TemporaryDirectory(prefix="labelloop-scorer-"))
        ports = {"port": held.enter_context(_reserved(settings.host, settings.port))}
        if settings.rest_port is not None:
            reserved = _reserved(settings.host, settings.rest_port, "LABELLOOP_REST_PORT")
            ports["rest_port"] = held.enter_context(reserved)
        shown = settings.metrics_port is not None
        workers = [Worker(number, ports, Path(folder), shown=shown) for number in range(settings.workers)]
        if shown:
            show_workers(Path(folder), workers)
        probes = Probes(settings, "labelloop.scorer.v1.ScorerService")
        await probes.start()
        try:
            async with asyncio.TaskGroup() as tasks:
                for worker in workers:
                    tasks.create_task(worker.keep_up())
                await asyncio.gather(*(worker.ready.wait() for worker in workers))
                if settings.ready_file:
                    write_whole(settings.ready_file, json.dumps(ports))
                await probes.ready()
                log.info("ready", host=settings.host, **ports, workers=settings.workers)
        finally:
            await probes.draining()
            await asyncio.gather(*(worker.stop(settings.drain_s) for worker in workers))


class Worker:
    """A scorer process, restarted when it dies.

    Args:
        ports: those that it listens on, by the name of their setting.
        shown: whether it writes its metrics into ``folder``.

    Attributes:
        ready: set once the process has become ready for the first time.
    """

    def __init__(self, number: int, ports: Mapping[str, int], folder: Path, *, shown: bool) -> None:
        self._number, self._ports, self._shown = number, ports, shown
        self._ready_file = folder / f"{number}.ready"
        self._process: asyncio.subprocess.Process | None = None
        self.ready = asyncio.Event()
        self.restarts = 0

    @property
    def pid(self) -> int | None:
        """The process's id; None while it does not run."""
        process = self._process
        return process.pid if process and process.returncode is None else None

    async def keep_up(self) -> None:
        """Start the process again whenever it ends, forever. WrongState if it does not come up."""
        while True:
            await self._start()
            self.ready.set()
            assert self._process is not None, "it has just been started"
            code = await self._process.wait()
            self.restarts += 1
            if self._shown:
                mark_process_dead(self._process.pid, str(self._ready_file.parent))  # type: ignore[no-untyped-call]
            log.warning("worker_died", action="starting it again", number=self._number, exit_code=code)

    async def _start(self) -> None:
        self._ready_file.unlink(missing_ok=True)
        ours = {
            **{f"LABELLOOP_{name.upper()}": str(port) for name, port in self._ports.items()},
            "LABELLOOP_READY_FILE": str(self._ready_file),
        }
        if self._shown:
            ours["PROMETHEUS_MULTIPROC_DIR"] = str(self._ready_file.parent)
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "scorer_svc.worker"),
            env={**_inherited(), **ours},
            stdin=asyncio.subprocess.PIPE,  # closes when the supervisor dies, however that happens
            start_new_session=True,  # Ctrl-C in the terminal is for the supervisor
        )
        while not self._ready_file.exists():
            if self._process.returncode is not None:
                message = f"worker {self._number} ended before it answered; it said why"
                raise WrongState("WORKER_FAILED", message, number=self._number)
            await asyncio.sleep(0.02)

    async def stop(self, drain_s: float) -> None:
        """Drain and end the process; kill it if it does not end in time."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(drain_s + _LEAVES_WITHIN_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


def _inherited() -> dict[str, str]:
    """Return the environment without the ports that only the supervisor serves."""
    return {name: value for name, value in os.environ.items() if name.upper() not in _OUR_PORTS}


@contextmanager
def _reserved(host: str, port: int, setting: str = "LABELLOOP_PORT") -> Iterator[int]:
    """Reserve a port within the context: it is bound, so that no one else can take it, but not listened on.

    WrongState if another process has it.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as alone:  # only our workers may share it: anyone else on it is an error
            alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            alone.bind(address)
            address = alone.getsockname()
        shared = socket.socket(family, kind)
        shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        shared.bind(address)
    except OSError as error:
        raise port_in_use(host, port, setting) from error
    with shared:
        yield int(address[1])
