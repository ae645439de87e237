"""Helpers of tests that stop services."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from labelloop.eventlog.connection import connect as connect_broker
from labelloop.eventlog.log import EventLog
from labelloop_cli.local.nats.port import HOST
from labelloop_cli.local.stack import Service, Stack

from tests.patience import PATIENCE_S

LEAVES_WITHIN_S = 10.0


async def ask_to_stop(service: Service, number: signal.Signals = signal.SIGTERM) -> float:
    """Send the signal; see :func:`leaves`."""
    assert service.process is not None
    service.process.send_signal(number)
    return await leaves(service)


async def leaves(service: Service) -> float:
    """Return the seconds until it has exited with code 0; kill it if it does not exit in time."""
    process, began = service.process, time.monotonic()
    assert process is not None
    try:
        async with asyncio.timeout(LEAVES_WITHIN_S):
            code = await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise AssertionError(f"the {service.name} had not left after {LEAVES_WITHIN_S:.0f} s") from None
    assert code == 0, service.log_file.read_text()
    return time.monotonic() - began


@asynccontextmanager
async def brought_back(*services: Service) -> AsyncIterator[None]:
    """Start the services again afterwards, whatever happens meanwhile."""
    try:
        yield
    finally:
        for service in services:
            if service.process is None or service.process.returncode is not None:
                await service.start()


async def until(holds: Callable[[], Awaitable[bool]], *, within_s: float = PATIENCE_S) -> None:
    """Wait until ``holds`` returns true."""
    async with asyncio.timeout(within_s):
        while not await holds():  # noqa: ASYNC110 - another process changes it, which sets no event here
            await asyncio.sleep(0.01)


async def closes(service: Service) -> None:
    """Wait until the service no longer listens: it drains."""

    async def refuses() -> bool:
        try:
            _, writer = await asyncio.open_connection(HOST, service.port)
        except OSError:
            return True
        writer.close()
        return False

    await until(refuses)


async def reach_event(stack: Stack, subject: str, *, within_s: float = PATIENCE_S) -> None:
    """Wait until the log holds an event under ``subject``."""
    client = await connect_broker(stack.nats_url, "test")
    try:
        async with asyncio.timeout(within_s):
            async for _ in EventLog(client).follow(subject):
                return
    finally:
        await client.close()
