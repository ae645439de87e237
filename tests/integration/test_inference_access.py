"""Who may call the Open Inference Protocol over TLS, by gRPC and HTTP: the same certificates as for Score."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from labelloop.inference.v2 import inference_pb2 as pb
from labelloop.inference.v2.inference_pb2_grpc import GRPCInferenceServiceStub
from labelloop.rpc.tls import channel

from tests.integration.inference_scorer import Runs, Scorer, model_bytes, served
from tests.integration.test_tls import DAY, HOST, Folders, folders

__all__ = ["folders"]


@pytest.fixture
def runs() -> Runs:
    made = Runs()
    made.begin("run")
    made.train("run", 1, model_bytes(1))
    return made


def context_of(folder: Path, *, certificate: bool = True) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=folder / "ca.crt")
    if certificate:
        context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    return context


async def rest_status(scorer: Scorer, context: ssl.SSLContext) -> int:
    """Return the status that a client gets; 0 if its connection is refused."""
    async with httpx.AsyncClient(verify=context) as client:
        try:
            return (await client.get(f"https://{HOST}:{scorer.rest.port}/v2/models/run")).status_code
        except httpx.TransportError:
            return 0


async def grpc_status(scorer: Scorer, folder: Path) -> str:
    async with channel(scorer.address, folder, []) as way:
        stub: Any = GRPCInferenceServiceStub(way)
        try:
            await stub.ModelMetadata(pb.ModelMetadataRequest(name="run"), timeout=30)
        except grpc.aio.AioRpcError as error:
            return str(error.code().name)
    return "OK"


async def test_only_certificates_of_clients_may_ask(runs: Runs, folders: Folders) -> None:
    known = {name: folders.write(name, folders.ours) for name in ("client", "trainer", "oracle", "somebody")}
    async with served(runs, tls_dir=folders.write("server", folders.ours)) as scorer:
        found = {
            name: (await rest_status(scorer, context_of(folder)), await grpc_status(scorer, folder))
            for name, folder in known.items()
        }
    refused = (403, "PERMISSION_DENIED")
    assert found == {"client": (200, "OK"), "trainer": refused, "oracle": refused, "somebody": refused}


async def test_connections_without_a_certificate_of_ours_are_refused(runs: Runs, folders: Folders) -> None:
    ours = folders.write("client", folders.ours)
    async with served(runs, tls_dir=folders.write("server", folders.ours)) as scorer:
        assert await rest_status(scorer, context_of(ours, certificate=False)) == 0
        strange = folders.write("strange", folders.strange, trusts=folders.ours)
        assert await rest_status(scorer, context_of(strange)) == 0
        expired = folders.write("client", folders.ours, lifetime=-DAY)
        assert await rest_status(scorer, context_of(expired)) == 0
        async with scorer.client() as client:
            with pytest.raises(httpx.TransportError):  # plain HTTP
                await client.get("/v2/health/live")


async def test_renewed_certificates_and_authorities_are_used_from_the_next_connection_on(
    runs: Runs,
    folders: Folders,
) -> None:
    server, client = folders.write("server", folders.ours), folders.write("client", folders.ours)
    async with served(runs, tls_dir=server) as scorer:
        first = await shown(scorer, client)
        (server / "tls.key").write_text("half written")
        assert await shown(scorer, client) == first
        folders.write("server", folders.ours)
        assert await shown(scorer, client) != first
        folders.write("server", folders.strange, trusts=folders.strange)
        assert await rest_status(scorer, context_of(client)) == 0
        assert (
            await rest_status(scorer, context_of(folders.write("client", folders.strange, trusts=folders.strange)))
            == 200
        )


async def shown(scorer: Scorer, client: Path) -> bytes:
    """Return the certificate that the HTTP server presents."""
    _, writer = await asyncio.open_connection(HOST, scorer.rest.port, ssl=context_of(client))
    found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return bytes(found)
