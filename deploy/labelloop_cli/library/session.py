"""Hold the connections of a client, and raise its errors as LabelloopErrors."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
from labelloop.errors import InvalidInput, WrongState
from labelloop.settings import setting_faults
from pydantic import ValidationError

from labelloop_cli.clients import Clients, Endpoints, as_ours, connect
from labelloop_cli.library.options import AnyPath

log = logging.getLogger("labelloop")
_PORTS = {"trainer": 50051, "scorer": 50052, "oracle": 50053}


class Session:
    """Connections to the three services, opened by the first call."""

    def __init__(self, endpoints: Endpoints) -> None:
        self.endpoints = endpoints
        self._stack, self._closed = AsyncExitStack(), False
        self._clients: Clients | None = None
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def translated(self) -> AsyncIterator[Clients]:
        """Give the clients to a block, and raise its gRPC errors as LabelloopErrors. WrongState once it is closed."""
        clients = await self._connected()
        try:
            yield clients
        except grpc.aio.AioRpcError as error:
            raise as_ours(error, self.endpoints) from error

    async def _connected(self) -> Clients:
        if self._closed:
            raise WrongState("CLIENT_CLOSED", "this client is closed: make another")
        async with self._lock:
            if self._clients is None:
                self._clients = await self._stack.enter_async_context(connect(self.endpoints, _log_wait))
        return self._clients

    async def close(self) -> None:
        """Close the connections."""
        self._closed = True
        await self._stack.aclose()


def _log_wait(note: str) -> None:
    log.warning(note)


def endpoints_of(
    host: str = "",
    *,
    trainer: str = "",
    scorer: str = "",
    oracle: str = "",
    tls_dir: AnyPath | None = None,
    retry_s: float | None = None,
) -> Endpoints:
    """Return the services' addresses: as given, else by ``host``, else by the environment, else on this machine.

    Raises InvalidInput for a setting that is wrong.
    """
    if host.count(":") == 1 or "/" in host:
        message = f"host is {host!r}: give a name or an IP address; trainer=, scorer= and oracle= take host:port"
        raise InvalidInput("BAD_HOST", message, field="host")
    bare = f"[{host}]" if ":" in host and not host.startswith("[") else host
    given = {"trainer": trainer, "scorer": scorer, "oracle": oracle, "tls_dir": tls_dir, "retry_s": retry_s}
    chosen: dict[str, Any] = {name: value for name, value in given.items() if value not in ("", None)}
    if host:
        chosen = {name: f"{bare}:{port}" for name, port in _PORTS.items()} | chosen
    try:
        return Endpoints(**chosen)
    except ValidationError as error:
        raise InvalidInput("BAD_SETTINGS", "; ".join(setting_faults(error, Endpoints))) from error
