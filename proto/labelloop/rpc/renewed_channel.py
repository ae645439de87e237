"""A gRPC channel that is replaced once the certificates of its folder are renewed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import grpc

from labelloop.rpc.certificates import Certificates, Renewals


class RenewedChannel(grpc.aio.Channel):
    """Makes each call over a channel with the newest certificates, as gRPC's own keep theirs for good.

    Calls that have begun stay on the channel before, which closes with the last of them.

    Attributes:
        look_every_s: The folder is read at most that often.
    """

    look_every_s = 5.0

    def __init__(self, renewals: Renewals, open_with: Callable[[Certificates], grpc.aio.Channel]) -> None:
        self._renewals, self._open_with = renewals, open_with
        self._with = renewals.newest()
        self._channel = open_with(self._with)
        self._looked_at = time.monotonic()

    def current(self) -> grpc.aio.Channel:
        """Return the channel for the next call."""
        if time.monotonic() - self._looked_at >= self.look_every_s:
            self._looked_at = time.monotonic()
            newest = self._renewals.newest()
            if newest != self._with:
                self._with, self._channel = newest, self._open_with(newest)
        return self._channel

    def unary_unary(self, *method: Any, **options: Any) -> Any:
        return lambda *call, **about: self.current().unary_unary(*method, **options)(*call, **about)

    def unary_stream(self, *method: Any, **options: Any) -> Any:
        return lambda *call, **about: self.current().unary_stream(*method, **options)(*call, **about)

    def stream_unary(self, *method: Any, **options: Any) -> Any:
        return lambda *call, **about: self.current().stream_unary(*method, **options)(*call, **about)

    def stream_stream(self, *method: Any, **options: Any) -> Any:
        return lambda *call, **about: self.current().stream_stream(*method, **options)(*call, **about)

    async def __aenter__(self) -> RenewedChannel:
        return self

    async def __aexit__(self, *problem: object) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        await self._channel.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self.current().get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self.current().wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self.current().channel_ready()
