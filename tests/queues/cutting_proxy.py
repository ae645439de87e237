"""A proxy to a server that can lose a response."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

_BYTES = 64 * 1024


class CuttingProxy:
    """Forwards everything to a port of this machine; ``cuts`` counts lost responses.

    ``connections`` counts those made, and ``closed`` those that the client closed itself.
    """

    def __init__(self, port: int) -> None:
        self._port, self._cut_at = port, b""
        self.cuts = self.connections = self.closed = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def cut(self, what: bytes) -> None:
        """Lose the response to the next request that contains ``what``: the request itself is carried out."""
        self._cut_at = what

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self._port)
        cutting = asyncio.Event()

        async def there() -> None:
            while data := await reader.read(_BYTES):
                if self._cut_at and self._cut_at in data:
                    self._cut_at = b""
                    cutting.set()
                to_server.write(data)

        async def back() -> None:
            while data := await from_server.read(_BYTES):
                if cutting.is_set():
                    self.cuts += 1
                    return
                writer.write(data)

        tasks = [asyncio.create_task(there()), asyncio.create_task(back())]
        self.connections += 1
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            self.closed += tasks[0] in done
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            writer.close()
            to_server.close()
