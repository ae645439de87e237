"""A service that refuses an upload before its end returns its error, however much is still being sent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from labelloop.errors import InvalidInput
from labelloop.rpc import handlers
from labelloop.rpc.call_metrics import CallCounts
from labelloop.rpc.handlers import guarded
from labelloop.trainer.v1.trainer_pb2 import ArtifactPiece, ImportRunRequest, ImportRunResponse

METHOD = "/labelloop.Test/ImportRun"
PIECE = ImportRunRequest(artifact=ArtifactPiece(data=bytes(1 << 20)))


async def refuse(parts: AsyncIterator[ImportRunRequest], context: Any) -> ImportRunResponse:
    async for _ in parts:
        raise InvalidInput("BAD_LEDGER", "that is no export")
    return ImportRunResponse()


@pytest.fixture
async def upload() -> AsyncIterator[Any]:
    """The upload call of a server of its own."""
    server = grpc.aio.server()
    handler = grpc.stream_unary_rpc_method_handler(
        refuse, ImportRunRequest.FromString, ImportRunResponse.SerializeToString
    )
    registrar: Any = guarded(server, CallCounts())
    registrar.add_registered_method_handlers("labelloop.Test", {"ImportRun": handler})
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel.stream_unary(METHOD, request_serializer=ImportRunRequest.SerializeToString)
    await server.stop(None)


async def pieces(count: int) -> AsyncIterator[ImportRunRequest]:
    for _ in range(count):
        yield PIECE


async def test_an_upload_that_is_refused_early_fails_with_the_services_error(upload: Any) -> None:
    for _ in range(20):
        with pytest.raises(grpc.aio.AioRpcError, match="INVALID_ARGUMENT"):
            await upload(pieces(20))


async def test_an_unfinished_upload_is_refused_after_a_timeout(upload: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers, "_REST_TIMEOUT_S", 0.2)
    call = upload()
    await call.write(PIECE)
    with pytest.raises(grpc.aio.AioRpcError, match="INVALID_ARGUMENT"):
        await call
