"""A TCP proxy that injects network faults, in place of netem, which not every kernel has."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress

_PIECE_BYTES = 64 * 1024
_RESET_AT_CLOSE = struct.pack("ii", 1, 0)


class Proxy:
    """Forward connections on ``port`` to ``target`` on this machine. All faults are off at first."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.latency_s = 0.0
        self._server: asyncio.Server | None = None
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._refusing = False
        self._silent = False
        self._links: set[_Link] = set()

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None, "leaving follows entering"
        self._server.close()
        for link in list(self._links):
            link.reset()
        await asyncio.gather(*(link.ended.wait() for link in list(self._links)))

    def stall(self) -> None:
        """Forward nothing, without closing anything; new connections are accepted and hang too."""
        self._flowing.clear()

    def silence(self) -> None:
        """Drop all data in both directions without closing anything, as if the target's machine had died.

        New connections are accepted and get no answer.
        """
        self._silent = True
        for link in list(self._links):
            link.silent = True

    def reset(self) -> None:
        """Reset every connection."""
        for link in list(self._links):
            link.reset()

    def cut_off(self) -> None:
        """Reset every connection and refuse new ones."""
        self._refusing = True
        self.reset()

    def half_open(self) -> None:
        """Reset the far side of every connection; the near side stays open and its bytes are discarded."""
        for link in list(self._links):
            link.lose_far_side()

    def cut_after(self, count: int) -> None:
        """Reset every connection after ``count`` more bytes from the far side, in mid-message."""
        for link in list(self._links):
            link.bytes_left = count

    def heal(self) -> None:
        """End all faults. Connections that were reset or lost stay so; those that lost data are reset."""
        self.latency_s, self._refusing, self._silent = 0.0, False, False
        for link in [link for link in self._links if link.silent]:
            link.reset()
        self._flowing.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link(writer, silent=self._silent)
        if self._refusing:
            link.reset()
            return
        self._links.add(link)
        try:
            await self._carry(link, reader)
        finally:
            link.reset()
            self._links.discard(link)
            link.ended.set()

    async def _carry(self, link: _Link, reader: asyncio.StreamReader) -> None:
        with suppress(OSError):
            await self._flowing.wait()
            far_reader, link.far = await asyncio.open_connection("127.0.0.1", self.target)
            there = asyncio.create_task(self._copy(reader, link, towards_far=True))
            back = asyncio.create_task(self._copy(far_reader, link, towards_far=False))
            await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
            if link.far_side_lost or link.silent:  # the near side is not told
                await there
            for task in (there, back):
                task.cancel()
            await asyncio.gather(there, back, return_exceptions=True)

    async def _copy(self, reader: asyncio.StreamReader, link: _Link, *, towards_far: bool) -> None:
        with suppress(OSError):
            while piece := await reader.read(_PIECE_BYTES):
                await self._flowing.wait()
                if self.latency_s:
                    await asyncio.sleep(self.latency_s)
                if link.silent or (towards_far and link.far_side_lost):
                    continue
                if not towards_far and link.bytes_left is not None:
                    piece, whole = piece[: link.bytes_left], len(piece)
                    link.bytes_left -= len(piece)
                    if len(piece) < whole:
                        link.near.write(piece)
                        return
                writer = link.far if towards_far else link.near
                assert writer is not None, "both sides are connected before anything flows"
                writer.write(piece)
                await writer.drain()


class _Link:
    """One connection through the proxy."""

    def __init__(self, near: asyncio.StreamWriter, *, silent: bool) -> None:
        self.near = near
        self.silent = silent
        self.far: asyncio.StreamWriter | None = None
        self.far_side_lost = False
        self.bytes_left: int | None = None
        self.ended = asyncio.Event()

    def lose_far_side(self) -> None:
        self.far_side_lost = True
        if self.far:
            _reset(self.far)

    def reset(self) -> None:
        for writer in (self.near, self.far):
            if writer:
                _reset(writer)


def _reset(writer: asyncio.StreamWriter) -> None:
    raw: socket.socket | None = writer.get_extra_info("socket")
    if raw and raw.fileno() >= 0:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
    writer.transport.abort()
