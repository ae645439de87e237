"""Start, call and stop a peer's server and its processes."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc
import httpx
import numpy as np
from labelloop.errors import WrongState

from tests.bench.cores import family, starting_on
from tests.bench.peers.catalog import Peer
from tests.bench.posting import Posted, grpc_call
from tests.bench.scored import Scored, check

_READY_TIMEOUT_S, _CALL_TIMEOUT_S, _STOP_TIMEOUT_S, _TRY_S = 120.0, 10.0, 20.0, 0.2
_LOG_TAIL = 300


@asynccontextmanager
async def serving(peer: Peer, python: Path, scored: Scored, core: int) -> AsyncIterator[PeerServer]:
    """Serve ``scored``'s model on ``core``; raise WrongState with the log's end if it does not answer."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "model.onnx").write_bytes(scored.model)
        http_port, grpc_port, metrics_port = _free_ports(3)
        arguments = [str(folder / "model.onnx"), *map(str, (http_port, grpc_port, metrics_port)), str(folder / "own")]
        with starting_on(core), (folder / "log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *(str(python), "-m", f"tests.bench.peers.{peer.name}_server", *arguments),
                # Files in its home are removed with the folder.
                env={**os.environ, **peer.environment, "HOME": name, "PYTHONPATH": str(Path.cwd())},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        server = PeerServer(peer, process, f"127.0.0.1:{grpc_port if peer.is_grpc else http_port}")
        try:
            if not await server.answers(scored):
                tail = (folder / "log").read_text(errors="replace")[-_LOG_TAIL:]
                raise WrongState("PEER_FAILED", f"its server does not answer; its log ends: {tail}", peer=peer.name)
            yield server
        finally:
            await _stop(process)


class PeerServer:
    def __init__(self, peer: Peer, process: asyncio.subprocess.Process, address: str) -> None:
        self._peer, self._process, self.address = peer, process, address

    async def answers(self, scored: Scored) -> bool:
        """Wait up to two minutes while it runs; return whether it answers."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_READY_TIMEOUT_S):
                while self._process.returncode is None:
                    with suppress(grpc.aio.AioRpcError, httpx.HTTPError):
                        await self._ask(self._peer.encode(scored.images[:1]))
                        return True
                    await asyncio.sleep(_TRY_S)
        return False

    async def unary(self, scored: Scored, count: int) -> Posted:
        """Check all images; return a request of ``count``. All peers' answers end in [count, 2] float32."""
        bodies = [self._peer.encode(scored.images[at : at + count]) for at in range(0, len(scored.images), count)]
        answers = [await self._ask(body) for body in bodies]
        tables = [np.frombuffer(answer[-8 * count :], "<f4").reshape(count, 2) for answer in answers]
        check(scored, np.concatenate(tables)[:, 0], self._peer.name)
        if self._peer.is_grpc:
            return grpc_call(self.address, self._peer.path, bodies[:1], [len(answers[0])], self._process.pid)
        url = f"http://{self.address}{self._peer.path}"
        return Posted(url, _HTTP_HEADERS, bodies[0], len(answers[0]), self._process.pid, h1=True)

    async def _ask(self, body: bytes) -> bytes:
        if self._peer.is_grpc:
            async with grpc.aio.insecure_channel(self.address) as channel:
                call: Any = channel.unary_unary(self._peer.path)
                return bytes(await call(body, timeout=_CALL_TIMEOUT_S))
        async with httpx.AsyncClient(timeout=_CALL_TIMEOUT_S) as client:
            response = await client.post(f"http://{self.address}{self._peer.path}", content=body, headers=_HTTP_HEADERS)
        return response.raise_for_status().content


_HTTP_HEADERS = {"content-type": "application/octet-stream"}


async def _stop(process: asyncio.subprocess.Process) -> None:
    """Terminate it, then kill its remaining children."""
    started = family(process.pid)[1:]
    if process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(_STOP_TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        process.kill()
    for pid in started:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    await process.wait()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listening.getsockname()[1] for listening in sockets]
    for listening in sockets:
        listening.close()
    return ports
