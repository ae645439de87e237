"""Send requests as bytes to a scorer over gRPC."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from labelloop.rpc.server import CHANNEL_OPTIONS
from labelloop.rpc.tls import channel

from labelloop_cli.load.calls import DEADLINE_S, Calls
from labelloop_cli.load.open_loop import Send

_CHANNELS = _STREAMS = 4
_OWN_CONNECTION = ("grpc.use_local_subchannel_pool", 1)
_TO_ALL = ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]}))


@asynccontextmanager
async def sending(address: str, calls: Calls, tls_dir: Path | None = None) -> AsyncIterator[Send]:
    """Yield a function that sends request i and returns status and bytes, empty if not OK.

    Calls go to all addresses of the name in ``address`` in turn.
    """
    async with AsyncExitStack() as exits:
        channels = [
            await exits.enter_async_context(channel(address, tls_dir, [*CHANNEL_OPTIONS, _OWN_CONNECTION, _TO_ALL]))
            for _ in range(_CHANNELS)
        ]
        if calls.is_stream:
            streams = [_Stream(channel, calls) for channel in channels]
            for stream in streams:
                exits.callback(stream.cancel)
            yield _in_turn([stream.send for stream in streams])
        else:
            yield _in_turn([_unary(channel, calls) for channel in channels])


def _in_turn(sends: list[Send]) -> Send:
    turn = 0

    async def send(index: int) -> tuple[str, bytes]:
        nonlocal turn
        turn = (turn + 1) % len(sends)
        return await sends[turn](index)

    return send


def _unary(channel: grpc.aio.Channel, calls: Calls) -> Send:
    method: Any = channel.unary_unary(calls.path)

    async def send(index: int) -> tuple[str, bytes]:
        try:
            return "OK", await method(calls.bodies[index], timeout=DEADLINE_S)
        except grpc.aio.AioRpcError as error:
            return error.code().name, b""

    return send


class _Stream:
    """One stream, reopened after errors; answers come in the order of the requests."""

    def __init__(self, channel: grpc.aio.Channel, calls: Calls) -> None:
        self._method: Any = channel.stream_stream(calls.path)
        self._calls = calls
        self._turn, self._answered = asyncio.Lock(), asyncio.Lock()
        self._call = self._method()

    async def send(self, index: int) -> tuple[str, bytes]:
        """Locks are fair: the first writer reads first."""
        call = self._call
        try:
            async with self._turn:
                await call.write(self._calls.bodies[index])
                reading = asyncio.ensure_future(self._read(call))
            return await reading
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            if self._call is call:
                self._call = self._method()
            return error.code().name if isinstance(error, grpc.aio.AioRpcError) else "CANCELLED", b""

    async def _read(self, call: Any) -> tuple[str, bytes]:
        async with self._answered:
            answer = await call.read()
        if answer is grpc.aio.EOF:
            return (await call.code()).name, b""
        return "OK", bytes(answer)

    def cancel(self) -> None:
        self._call.cancel()
