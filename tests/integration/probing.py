"""Health checks, as a supervisor of processes makes them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.patience import PATIENCE_S


async def health(port: int, service: str) -> int:
    """Return the serving status of ``service`` on a port of this machine, over plaintext."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service=service)
        return int((await stub.Check(request, wait_for_ready=True, timeout=PATIENCE_S)).status)


async def watch(port: int, service: str) -> AsyncIterator[int]:
    """Yield the serving status of ``service``, and each change of it."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        async for response in stub.Watch(health_pb2.HealthCheckRequest(service=service), wait_for_ready=True):
            yield int(response.status)
