"""Clients such as grpcurl ask a server for its services, and call one by what they are told."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from labelloop.errors import InvalidInput
from labelloop.rpc import reflection
from labelloop.rpc.server import Server
from labelloop.settings import ServiceSettings
from labelloop_cli.local import stack

from tests.integration.inference_scorer import Runs, model_bytes, served
from tests.integration.test_tls import Folders, folders

__all__ = ["folders"]

INFERENCE = "inference.GRPCInferenceService"


@pytest.fixture
def runs() -> Runs:
    made = Runs()
    made.begin("run")
    made.train("run", 1, model_bytes(1))
    return made


def services_of(address: str, credentials: grpc.ChannelCredentials | None = None) -> list[str]:
    channel = grpc.secure_channel(address, credentials) if credentials else grpc.insecure_channel(address)
    with channel:
        return sorted(ProtoReflectionDescriptorDatabase(channel).get_services())


def called_by_descriptors(address: str) -> str:
    """Call ModelMetadata by the descriptors that the server sends; return the platform that it answers."""
    with grpc.insecure_channel(address) as channel:
        pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
        method = pool.FindServiceByName(INFERENCE).FindMethodByName("ModelMetadata")
        asked, answered = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
        call: Any = channel.unary_unary(f"/{INFERENCE}/ModelMetadata", asked.SerializeToString, answered.FromString)
        return str(call(asked(name="run"), timeout=30).platform)


async def test_services_are_listed_and_called_by_their_descriptors(runs: Runs) -> None:
    async with served(runs, reflection=True) as scorer:
        assert await asyncio.to_thread(services_of, scorer.address) == [
            "grpc.health.v1.Health",
            "grpc.reflection.v1alpha.ServerReflection",
            INFERENCE,
            "labelloop.diagnostics.v1.DiagnosticsService",
        ]
        assert await asyncio.to_thread(called_by_descriptors, scorer.address) == "onnxruntime_onnx"


async def test_nobody_is_told_unless_it_is_turned_on(runs: Runs) -> None:
    async with served(runs) as scorer:
        with pytest.raises(grpc.RpcError) as caught:
            await asyncio.to_thread(services_of, scorer.address)
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


def credentials(folder: Path) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(*((folder / name).read_bytes() for name in ("ca.crt", "tls.key", "tls.crt")))


async def test_over_tls_only_clients_are_told(runs: Runs, folders: Folders) -> None:
    client, other = folders.write("client", folders.ours), folders.write("oracle", folders.ours)
    async with served(runs, reflection=True, tls_dir=folders.write("server", folders.ours)) as scorer:
        assert INFERENCE in await asyncio.to_thread(services_of, scorer.address, credentials(client))
        with pytest.raises(grpc.RpcError) as caught:
            await asyncio.to_thread(services_of, scorer.address, credentials(other))
    assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED


async def test_without_the_library_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reflection, "_LIBRARY", "no_such_library")
    with pytest.raises(InvalidInput, match="extra `reflection`"):
        await Server(ServiceSettings(reflection=True), "test").start()
    assert stack.reflection_settings(True) == {}


def test_up_turns_it_on_unless_the_environment_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(stack.REFLECTION, raising=False)
    assert stack.reflection_settings(True) == {"LABELLOOP_REFLECTION": "true"}
    assert stack.reflection_settings(False) == {}
    monkeypatch.setenv(stack.REFLECTION, "false")
    assert stack.reflection_settings(True) == {}
