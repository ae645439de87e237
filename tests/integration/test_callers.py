"""Who may call what over TLS: every method of every service, with the certificate of each."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from labelloop.diagnostics.v1 import diagnostics_pb2
from labelloop.inference.v2 import inference_pb2, inference_pb2_grpc
from labelloop.oracle.v1 import oracle_pb2, oracle_pb2_grpc
from labelloop.rpc.callers import CALLS_OF_SERVICES
from labelloop.rpc.server import Server
from labelloop.rpc.tls import channel
from labelloop.scorer.v1 import scorer_pb2, scorer_pb2_grpc
from labelloop.settings import ServiceSettings
from labelloop.trainer.v1 import trainer_pb2, trainer_pb2_grpc
from labelloop_cli.local.certificates import Pair, authority, issue

README = Path(__file__).parents[2] / "deploy/README.md"
HOST = "127.0.0.1"
NAMES = ("client", "trainer", "scorer", "oracle", "nats", "stranger", "client.stranger")
FILES = (trainer_pb2, scorer_pb2, oracle_pb2, diagnostics_pb2, inference_pb2)
METHODS: list[MethodDescriptor] = [
    method for file in FILES for service in file.DESCRIPTOR.services_by_name.values() for method in service.methods
]


class Reached:
    """A servicer of any service, whose methods answer with a status of their own."""

    def __getattr__(self, name: str) -> Any:
        method = next(each for each in METHODS if each.name == name)

        async def answer(request: Any, context: Any) -> None:
            if method.client_streaming:
                async for _ in request:
                    pass
            await context.abort(grpc.StatusCode.DATA_LOSS, "reached")

        async def stream(request: Any, context: Any) -> AsyncIterator[None]:
            await answer(request, context)
            yield

        return stream if method.server_streaming else answer


@dataclass
class Certificates:
    folder: Path
    authority: Pair

    def of(self, name: str) -> Path:
        """Return a folder with the certificate of ``name``, for LABELLOOP_TLS_DIR."""
        folder = self.folder / f"tls-{name}"
        folder.mkdir(exist_ok=True)
        pair = issue(self.authority, name, [HOST], timedelta(days=1))
        (folder / "ca.crt").write_bytes(self.authority.certificate_pem)
        (folder / "tls.crt").write_bytes(pair.certificate_pem)
        (folder / "tls.key").write_bytes(pair.key_pem)
        return folder


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path, authority(timedelta(days=1)))


@pytest.fixture
async def serve(certificates: Certificates) -> AsyncIterator[Callable[..., Any]]:
    async with AsyncExitStack() as stack:

        async def serve(**settings: Any) -> str:
            server = Server(ServiceSettings(tls_dir=certificates.of("server"), **settings), "test")
            servicer: Any = Reached()
            trainer_pb2_grpc.add_TrainerServiceServicer_to_server(servicer, server.grpc)
            scorer_pb2_grpc.add_ScorerServiceServicer_to_server(servicer, server.grpc)
            oracle_pb2_grpc.add_OracleServiceServicer_to_server(servicer, server.grpc)
            inference_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, server.grpc)
            await server.start()
            stack.push_async_callback(server.stop)
            return f"{HOST}:{server.port}"

        yield serve


async def status_of(way: grpc.aio.Channel, path: str, client_streaming: bool, server_streaming: bool) -> str:
    """Return the status of a call with an empty request."""
    kind = f"{'stream' if client_streaming else 'unary'}_{'stream' if server_streaming else 'unary'}"
    request = iter([b""]) if client_streaming else b""
    call = getattr(way, kind)(path)(request, timeout=30)
    return str((await call.code()).name)


def may_call(name: str, method: MethodDescriptor) -> bool:
    service = method.containing_service.full_name
    return name == "client" or method.name in CALLS_OF_SERVICES.get(name, {}).get(service, ())


@pytest.mark.parametrize("name", NAMES)
async def test_each_certificate_reaches_what_its_name_may_call_and_nothing_else(
    name: str, serve: Callable[..., Any], certificates: Certificates
) -> None:
    async with channel(await serve(), certificates.of(name), []) as way:
        found = {
            method.full_name: await status_of(
                way,
                f"/{method.containing_service.full_name}/{method.name}",
                method.client_streaming,
                method.server_streaming,
            )
            for method in METHODS
        }
    own = "labelloop.diagnostics.v1.DiagnosticsService.Diagnose"  # which the server itself answers
    reached = {method.full_name: "OK" if method.full_name == own else "DATA_LOSS" for method in METHODS}
    assert found == {
        method.full_name: reached[method.full_name] if may_call(name, method) else "PERMISSION_DENIED"
        for method in METHODS
    }


async def test_everybody_may_ask_for_health(serve: Callable[..., Any], certificates: Certificates) -> None:
    async with channel(await serve(), certificates.of("scorer"), []) as way:
        assert await status_of(way, "/grpc.health.v1.Health/Check", False, False) == "OK"


async def test_operators_name_the_certificates_of_clients(
    serve: Callable[..., Any], certificates: Certificates
) -> None:
    address = await serve(clients="laptop, dashboard")
    start = "/labelloop.trainer.v1.TrainerService/StartRun"
    for name, status in (("laptop", "DATA_LOSS"), ("dashboard", "DATA_LOSS"), ("client", "PERMISSION_DENIED")):
        async with channel(address, certificates.of(name), []) as way:
            assert await status_of(way, start, False, False) == status


async def test_a_refusal_names_the_certificate_and_the_setting(
    serve: Callable[..., Any], certificates: Certificates
) -> None:
    async with channel(await serve(), certificates.of("scorer"), []) as way:
        call: Any = way.unary_unary("/labelloop.trainer.v1.TrainerService/StartRun")
        refused = call(b"", timeout=30)
        assert await refused.details() == (
            "the certificate of 'scorer' may not call StartRun; call with one whose common name is in "
            "LABELLOOP_CLIENTS of the service"
        )


def test_the_table_names_services_and_methods_that_exist() -> None:
    existing = {(method.containing_service.full_name, method.name) for method in METHODS}
    assert {
        (service, method)
        for calls in CALLS_OF_SERVICES.values()
        for service, methods in calls.items()
        for method in methods
    } <= existing


def test_the_table_for_operators_is_the_one_that_services_use() -> None:
    rows = re.findall(r"^\| (\w+) \| (.*) \|$", README.read_text().split("| certificate of | may call |")[1], re.M)
    written = {name: set(re.findall(r"`(\w+)`", calls)) for name, calls in rows[: len(CALLS_OF_SERVICES) + 1]}
    used = {name: {method for each in calls.values() for method in each} for name, calls in CALLS_OF_SERVICES.items()}
    assert written == {"client": set()} | used
