"""The whole service on this machine: a broker and the three services, each a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import structlog
from labelloop.wire.broker import check_reachable
from labelloop.wire.errors import WrongState
from platformdirs import user_cache_path

from labelloop_cli.clients import Endpoints
from labelloop_cli.console import console
from labelloop_cli.extras import check_installed
from labelloop_cli.nats_binary import find_or_get
from labelloop_cli.nats_server import NatsServer

_READY_TIMEOUT_S = 300.0  # a limit for what hangs: a service that ends is told of at once
_STOP_TIMEOUT_S = 15.0
_RESTARTS_MAX = 5
_LOG_TAIL_LINES = 5

T = TypeVar("T")

log = structlog.get_logger()


async def launch(module: str, environment: Mapping[str, str], output: BinaryIO) -> asyncio.subprocess.Process:
    """Run a module as a process in a session of its own: a Ctrl-C in the terminal is for us, who stop services in
    their order."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", module),
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )


@dataclass
class Service:
    """One service process, started again when it dies, on the same ports."""

    name: str
    folder: Path
    environment: dict[str, str]
    port: int = 0
    http_port: int = 0
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
        """It is there while the service answers, and for a moment after it died."""
        return self.folder / f"{self.name}.ready"

    async def start(self) -> None:
        """Return once the service answers; WrongState with the end of its log where it does not."""
        self.ready_file.unlink(missing_ok=True)
        ours = {"LABELLOOP_PORT": str(self.port), "LABELLOOP_READY_FILE": str(self.ready_file)}
        if self.http_port:
            ours["LABELLOOP_HTTP_PORT"] = str(self.http_port)
        with self.log_file.open("ab") as output:
            self.process = await launch(f"{self.name}_svc", {**os.environ, **self.environment, **ours}, output)
        try:
            async with asyncio.timeout(_READY_TIMEOUT_S):
                while not self.ready_file.exists():
                    if self.process.returncode is not None:
                        raise self._failed("ended")
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise self._failed(f"was not ready within {_READY_TIMEOUT_S:.0f} s") from None
        ready = json.loads(self.ready_file.read_text())
        self.port, self.http_port = ready["port"], ready.get("http_port", 0)

    def _failed(self, how: str) -> WrongState:
        tail = self.log_file.read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:]
        message = f"the {self.name} {how}; the end of {self.log_file}:\n  " + "\n  ".join(tail)
        return WrongState("SERVICE_FAILED", message, service=self.name)

    async def keep_up(self) -> None:
        """Start the service again each time it dies; WrongState when it will not stay."""
        while True:
            assert self.process is not None, "keep_up follows start"
            code = await self.process.wait()
            self.restarts += 1
            if self.restarts > _RESTARTS_MAX:
                raise self._failed(f"died {self.restarts} times")
            log.warning("service died; starting it again", name=self.name, exit_code=code)
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
    """The page that people label on: its port, 0 for any free one, and the secret that opens it, made up where none is
    given."""

    port: int = 0
    token: str = field(default_factory=lambda: secrets.token_urlsafe(18))


@dataclass(frozen=True)
class Stack:
    """``broker`` is None where somebody else runs it; ``page_url`` signs in whoever opens it, and is empty where no
    page was asked for."""

    nats_url: str
    endpoints: Endpoints
    services: dict[str, Service]
    broker: NatsServer | None
    page_url: str = ""

    async def keep_up(self) -> None:
        """Keep everything running, for ever; WrongState when something will not stay."""
        async with asyncio.TaskGroup() as tasks:
            for service in self.services.values():
                tasks.create_task(service.keep_up())
            if self.broker:
                tasks.create_task(_keep_broker_up(self.broker))

    async def while_up(self, work: Coroutine[Any, Any, T]) -> T:
        """What ``work`` returns, everything being kept running meanwhile."""
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
    """The services wait while it is away and go on."""
    for _ in range(_RESTARTS_MAX):
        try:
            await broker.wait()
        except WrongState as error:
            log.warning("broker died; starting it again", problem=error.message)
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
) -> AsyncIterator[Stack]:
    """Everything up, its data under ``store``; all of it is stopped at the end, whatever the end.

    ``ports`` are those of trainer, scorer and oracle, 0 for any free one. Where ``nats_url`` names no broker, one is
    started on ``nats_port``. WrongState, before anything is started, where a service's libraries are not installed.
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
            broker = await stack.enter_async_context(NatsServer(binary, store / "nats", port=nats_port))
            nats_url = broker.url
        shared = {"LABELLOOP_NATS_URL": nats_url}
        trainer_port, scorer_port, oracle_port = ports
        scorer = Service("scorer", logs, {"LABELLOOP_CACHE_DIR": str(store / "cache"), **shared}, scorer_port)
        web = {"LABELLOOP_HTTP_PORT": str(page.port), "LABELLOOP_HTTP_TOKEN": page.token} if page else {}
        oracle = Service("oracle", logs, shared | web, oracle_port)
        for service in (scorer, oracle):
            stack.push_async_callback(service.stop)
        await asyncio.gather(scorer.start(), oracle.start())
        peers = {"LABELLOOP_SCORER": scorer.address, "LABELLOOP_ORACLE": oracle.address}
        trainer = Service("trainer", logs, shared | peers, trainer_port)
        stack.push_async_callback(trainer.stop)
        await trainer.start()
        endpoints = Endpoints(trainer=trainer.address, scorer=scorer.address, oracle=oracle.address)
        page_url = f"http://127.0.0.1:{oracle.http_port}/?token={page.token}" if page else ""
        services = {"trainer": trainer, "scorer": scorer, "oracle": oracle}
        yield Stack(nats_url, endpoints, services, broker, page_url)


async def up(store: Path, nats: str, nats_port: int, ports: tuple[int, int, int], page: Page | None) -> None:
    """Print where everything runs, and keep it running until interrupted."""
    async with running(store, nats_url=nats, nats_port=nats_port, ports=ports, page=page) as stack:
        console.print(f"broker   {stack.nats_url}")
        for name, service in stack.services.items():
            console.print(f"{name:<8} {service.address}")
        if stack.page_url:
            console.print(f"page     {stack.page_url}", soft_wrap=True)
        console.print(f"data and logs in {store}; Ctrl-C stops everything, `labelloop up` goes on from there")
        await stack.keep_up()
