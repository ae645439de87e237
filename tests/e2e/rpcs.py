"""All RPCs of the services, and a caller that sends them arbitrary bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from labelloop.inference.v2 import inference_pb2
from labelloop.oracle.v1 import oracle_pb2
from labelloop.scorer.v1 import scorer_pb2
from labelloop.trainer.v1 import trainer_pb2
from labelloop_cli.clients import Endpoints

_DEADLINE_S = 30.0
_WRITES = {
    "StartRun",
    "CancelRun",
    "ImportRun",
    "ClearImport",
    "ArchiveRun",
    "RestoreRun",
    "SubmitLabels",
    "SkipSamples",
    "SubmitResults",
    "CancelRequests",
    "ChangeAnnotators",
}
_FILES = {"trainer": [trainer_pb2], "scorer": [scorer_pb2, inference_pb2], "oracle": [oracle_pb2]}


@dataclass(frozen=True)
class Rpc:
    """An RPC; ``service`` is a key of ``Stack.services``."""

    service: str
    method: MethodDescriptor

    @property
    def name(self) -> str:
        return str(self.method.name)

    @property
    def path(self) -> str:
        return f"/{self.method.containing_service.full_name}/{self.method.name}"


def all_rpcs() -> list[Rpc]:
    """Return the RPCs that the protos declare, so that new ones are included."""
    return [
        Rpc(service, method)
        for service, files in _FILES.items()
        for file in files
        for declared in file.DESCRIPTOR.services_by_name.values()
        for method in declared.methods
    ]


@dataclass
class Caller:
    """Calls RPCs with raw bytes. ``touched`` are the runs that accepted calls have changed: their logs may grow."""

    channels: dict[str, grpc.aio.Channel]
    touched: set[str] = field(default_factory=set)

    async def call(self, rpc: Rpc, data: bytes) -> None:
        """Return if the call is accepted; cancel a stream once it has begun. Raise AioRpcError otherwise."""
        answer = await _first_answer(self.channels[rpc.service], rpc, data)
        if rpc.name not in _WRITES:
            return
        request = GetMessageClass(rpc.method.input_type).FromString(data)
        response = GetMessageClass(rpc.method.output_type).FromString(answer)
        self.touched |= _runs_of(request) | _runs_of(response)


async def _first_answer(channel: grpc.aio.Channel, rpc: Rpc, data: bytes) -> bytes:
    streams = (rpc.method.client_streaming, rpc.method.server_streaming)
    kind = {
        (False, False): channel.unary_unary,
        (False, True): channel.unary_stream,
        (True, False): channel.stream_unary,
        (True, True): channel.stream_stream,
    }[streams]
    method: Any = kind(rpc.path, request_serializer=None, response_deserializer=None)
    call = method(iter([data]) if streams[0] else data, timeout=_DEADLINE_S)
    if not streams[1]:
        return bytes(await call)
    try:
        answer = await call.read()
        return b"" if answer is grpc.aio.EOF else bytes(answer)
    finally:
        call.cancel()


def _runs_of(message: Message) -> set[str]:
    run = getattr(message, "run", None)
    named = {result.request_id.partition("/")[0] for result in getattr(message, "results", ())}
    return named | {getattr(message, "run_id", ""), getattr(run, "run_id", "")} - {""}


@asynccontextmanager
async def calling(endpoints: Endpoints) -> AsyncIterator[Caller]:
    """Yield a caller that may send larger messages than a server accepts."""
    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    channels = {service: grpc.aio.insecure_channel(getattr(endpoints, service), options=options) for service in _FILES}
    try:
        yield Caller(channels)
    finally:
        for channel in channels.values():
            await channel.close()
