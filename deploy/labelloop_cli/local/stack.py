"""Run labelloop on this machine: a broker and the three services, each as a process of its own."""

from __future__ import annotations

import asyncio
import glob
import json
import os
import secrets
import sys
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import structlog
from labelloop.errors import InvalidInput, WrongState
from labelloop.eventlog.connection import check_reachable
from labelloop.rpc.reflection import is_installed
from platformdirs import user_cache_path

from labelloop_cli.clients import Endpoints
from labelloop_cli.extras import check_installed
from labelloop_cli.local.end_with_parent import ended_with_us
from labelloop_cli.local.nats.binary import find_or_get
from labelloop_cli.local.nats.server import NatsServer
from labelloop_cli.local.page_links import page_links

_IN_STORE = ("nats", "logs", "cache")
_READY_TIMEOUT_S = 300.0  # for a service that hangs: one that ends is reported at once
_STOP_TIMEOUT_S = 15.0
_RESTARTS_MAX = 5
_LOG_TAIL_LINES = 5
REFLECTION, REST_PORT = "LABELLOOP_REFLECTION", "LABELLOOP_REST_PORT"
POOLS_DIR, HIDDEN_FILES = "LABELLOOP_POOLS_DIR", "LABELLOOP_HIDDEN_FILES"

T = TypeVar("T")

log = structlog.get_logger()


async def launch(module: str, environment: Mapping[str, str], output: BinaryIO) -> asyncio.subprocess.Process:
    """Run a module as a process in its own session.

    Ctrl-C in the terminal must not reach the services, which are stopped in order.
    """
    return await _launched([sys.executable, "-m", module], environment, output)


async def launch_for_us(module: str, environment: Mapping[str, str], output: BinaryIO) -> asyncio.subprocess.Process:
    """Run a module as ``launch`` does; where the system can, it ends when this process is killed."""
    return await _launched(ended_with_us([sys.executable, "-m", module]), environment, output)


async def _launched(
    command: Sequence[str], environment: Mapping[str, str], output: BinaryIO
) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *command,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )


@dataclass
class Service:
    """One service process, restarted on the same ports when it dies.

    Attributes:
        for_us: Whether it ends when this process is killed, where the system can do so.
    """

    name: str
    folder: Path
    environment: dict[str, str]
    port: int = 0
    http_port: int = 0
    rest_port: int = 0
    for_us: bool = False
    process: asyncio.subprocess.Process | None = None
    restarts: int = field(default=0, init=False)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def log_file(self) -> Path:
        return self.folder / f"{self.name}.log"

    @property
    def ready_file(self) -> Path:
        """File that exists while the service answers, and for a moment after it died."""
        return self.folder / f"{self.name}.ready"

    async def start(self) -> None:
        """Start the service, and return once it answers.

        Raises:
            InvalidInput: If one of its settings is wrong.
            WrongState: With the end of its log, if it does not answer.
        """
        self.ready_file.unlink(missing_ok=True)
        ours = {"LABELLOOP_PORT": str(self.port), "LABELLOOP_READY_FILE": str(self.ready_file)}
        if self.http_port:
            ours["LABELLOOP_HTTP_PORT"] = str(self.http_port)
        if self.rest_port:
            ours[REST_PORT] = str(self.rest_port)
        with self.log_file.open("ab") as output:
            start = launch_for_us if self.for_us else launch
            written = output.tell()
            self.process = await start(f"{self.name}_svc", {**os.environ, **self.environment, **ours}, output)
        try:
            async with asyncio.timeout(_READY_TIMEOUT_S):
                while not self.ready_file.exists():
                    if self.process.returncode is not None:
                        raise self._bad_settings(written) or self._failed("ended")
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise self._failed(f"was not ready within {_READY_TIMEOUT_S:.0f} s") from None
        ready = json.loads(self.ready_file.read_text())
        self.port, self.http_port, self.rest_port = (ready.get(name, 0) for name in ("port", "http_port", "rest_port"))

    def _bad_settings(self, written: int) -> InvalidInput | None:
        """Return what the process said of its settings, behind ``written`` bytes of its log; None if they are right."""
        if self.process is None or self.process.returncode != 2:
            return None
        said = self.log_file.read_bytes()[written:].decode(errors="replace")
        return InvalidInput("BAD_SETTINGS", "; ".join(said.splitlines()), service=self.name)

    def _failed(self, how: str) -> WrongState:
        tail = self.log_file.read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:]
        message = f"the {self.name} {how}; the end of {self.log_file}:\n  " + "\n  ".join(tail)
        return WrongState("SERVICE_FAILED", message, service=self.name)

    async def keep_up(self) -> None:
        """Restart the service each time it dies. Raises WrongState if it does not stay up."""
        while True:
            assert self.process is not None, "keep_up follows start"
            code = await self.process.wait()
            self.restarts += 1
            if self.restarts > _RESTARTS_MAX:
                raise self._failed(f"died {self.restarts} times")
            log.warning("service_died", action="starting it again", name=self.name, exit_code=code)
            await self.start()

    async def stop(self) -> None:
        process = self.process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(_STOP_TIMEOUT_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


@dataclass(frozen=True)
class Page:
    """The labelling page.

    Attributes:
        port: Port to serve it on; 0 for any free one.
        token: Secret that opens the page; generated by default.
    """

    port: int = 0
    token: str = field(default_factory=lambda: secrets.token_urlsafe(18))


@dataclass(frozen=True)
class Stack:
    """The running broker and services.

    Attributes:
        broker: None if the broker is not run by this command.
        page_url: Link that signs in anyone who opens it on this machine; empty if no page was requested.
        page_url_of_others: The same for other machines; empty if the page listens here alone.
    """

    nats_url: str
    endpoints: Endpoints
    services: dict[str, Service]
    broker: NatsServer | None
    page_url: str = ""
    page_url_of_others: str = ""

    async def keep_up(self) -> None:
        """Restart services that end, until cancelled. Raises a group with a WrongState if one does not stay up."""
        async with asyncio.TaskGroup() as tasks:
            for service in self.services.values():
                tasks.create_task(service.keep_up())
            if self.broker:
                tasks.create_task(_keep_broker_up(self.broker))

    async def while_up(self, work: Coroutine[Any, Any, T]) -> T:
        """Run ``work`` and return its result, keeping everything running meanwhile."""
        doing, keeping = asyncio.create_task(work), asyncio.create_task(self.keep_up())
        try:
            await asyncio.wait({doing, keeping}, return_when=asyncio.FIRST_COMPLETED)
            if keeping.done():
                keeping.result()
            return await doing
        finally:
            for task in (doing, keeping):
                task.cancel()
            await asyncio.gather(doing, keeping, return_exceptions=True)


async def _keep_broker_up(broker: NatsServer) -> None:
    """Restart the broker when it dies; the services wait for it and go on."""
    for _ in range(_RESTARTS_MAX):
        try:
            await broker.wait()
        except WrongState as error:
            log.warning("broker_died", action="starting it again", problem=error.message)
            await broker.start()
    await broker.wait()


@asynccontextmanager
async def running(
    store: Path,
    *,
    nats_url: str = "",
    nats_port: int = 0,
    ports: tuple[int, int, int] = (0, 0, 0),
    page: Page | None = None,
    remote_pools: str = "",
    pools_dir: Path | None = None,
    for_us: bool = False,
    reflection: bool = False,
    rest_port: int | None = None,
) -> AsyncIterator[Stack]:
    """Start everything, with its data under ``store``, and stop all of it at the end of the block, however it ends.

    Args:
        nats_url: Broker to use; if empty, one is started on ``nats_port``.
        ports: Ports of trainer, scorer and oracle; 0 for any free one.
        remote_pools: URLs below which runs may name pools, separated by commas; if empty, what the environment says.
        pools_dir: The folder in which runs may name files; by default that of :func:`pools_folder`.
        rest_port: Port of the scorer for the Open Inference Protocol over HTTP; 0 for any free one. None for none, or
            what the environment says.
        reflection: Whether clients may ask the services for their methods, where the environment does not say.
        for_us: Whether all of it ends when this process is killed, where the system can do so.

    Raises:
        WrongState: Before anything is started, if a service's libraries are not installed.
    """
    check_installed("trainer", "scorer", "oracle")
    store.mkdir(parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        logs = store / "logs"
        logs.mkdir(exist_ok=True)
        broker = None
        if nats_url:
            await check_reachable(nats_url)
        else:
            binary = await asyncio.to_thread(find_or_get, user_cache_path("labelloop"))
            broker = await stack.enter_async_context(NatsServer(binary, store / "nats", port=nats_port, for_us=for_us))
            nats_url = broker.url
        shared = {"LABELLOOP_NATS_URL": nats_url, **reflection_settings(reflection)}
        trainer_port, scorer_port, oracle_port = ports
        of_scorer = {"LABELLOOP_CACHE_DIR": str(store / "cache"), **shared}
        if rest_port is not None:
            of_scorer[REST_PORT] = str(rest_port)
        scorer = Service("scorer", logs, of_scorer, scorer_port, for_us=for_us)
        pools = files_settings(pools_dir or pools_folder(), store)
        settings = shared | oracle_settings(page, remote_pools) | pools
        oracle = Service("oracle", logs, settings, oracle_port, for_us=for_us)
        for service in (scorer, oracle):
            stack.push_async_callback(service.stop)
        await asyncio.gather(scorer.start(), oracle.start())
        peers = {"LABELLOOP_SCORER": scorer.address, "LABELLOOP_ORACLE": oracle.address}
        kept = {"LABELLOOP_CACHE_DIR": str(store / "cache")}
        trainer = Service("trainer", logs, shared | peers | kept, trainer_port, for_us=for_us)
        stack.push_async_callback(trainer.stop)
        await trainer.start()
        endpoints = Endpoints(trainer=trainer.address, scorer=scorer.address, oracle=oracle.address)
        page_urls = page_links(os.environ, oracle.http_port, page.token) if page else ()
        services = {"trainer": trainer, "scorer": scorer, "oracle": oracle}
        yield Stack(nats_url, endpoints, services, broker, *page_urls)


def reflection_settings(wanted: bool) -> dict[str, str]:
    """Return the setting that turns reflection on, if it is wanted, possible, and not set in the environment."""
    return {REFLECTION: "true"} if wanted and is_installed() and REFLECTION not in os.environ else {}


def oracle_settings(page: Page | None, remote_pools: str) -> dict[str, str]:
    """Return the oracle's settings for the page and for pools elsewhere, in as far as they are given."""
    web = {"LABELLOOP_HTTP_PORT": str(page.port), "LABELLOOP_HTTP_TOKEN": page.token} if page else {}
    return web | ({"LABELLOOP_REMOTE_POOLS": remote_pools} if remote_pools else {})


def pools_folder() -> Path:
    """Return the folder in which runs may name files: the one that the environment names, else the working folder."""
    return Path(os.environ.get(POOLS_DIR) or Path.cwd()).absolute()


def files_settings(pools_dir: Path, store: Path) -> dict[str, str]:
    """Return the settings on files that runs may name: those in ``pools_dir``, but not in ``store``, where logs are."""
    folder, ours = pools_dir.resolve(), store.resolve()
    hidden = [os.environ.get(HIDDEN_FILES, "")]
    if ours == folder:
        hidden += _IN_STORE
    elif ours.is_relative_to(folder):
        hidden.append(glob.escape(ours.relative_to(folder).as_posix()).replace(",", "?"))
    return {POOLS_DIR: str(pools_dir), HIDDEN_FILES: ",".join(hidden)}
