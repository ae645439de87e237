"""Ask every instance of the services that can be reached how it is, for ``labelloop doctor``."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
from labelloop.diagnostics.v1.diagnostics_pb2 import DiagnoseRequest, DiagnoseResponse
from labelloop.diagnostics.v1.diagnostics_pb2_grpc import DiagnosticsServiceStub
from labelloop.rpc.certificates import Renewals
from labelloop.rpc.server import CHANNEL_OPTIONS
from labelloop.rpc.tls import channel, client_context

from labelloop_cli.clients import Endpoints

_TIMEOUT_S = 5.0
_CONNECTIONS = 8  # a cluster IP hands each to an instance at random: of three, this finds all nine times out of ten
_OWN_CONNECTION = ("grpc.use_local_subchannel_pool", 1)


@dataclass(frozen=True)
class Answer:
    """What one instance of a service said, or why it said nothing.

    Attributes:
        service: "trainer", "scorer" or "oracle".
        address: Where it was asked.
        response: Its answer; None if there was none.
        problem: Why there was none.
        clock: How far its clock is ahead of the one here, as far as the time that the answer took does not explain it.
    """

    service: str
    address: str
    response: DiagnoseResponse | None = None
    problem: str = ""
    clock: timedelta = timedelta()


async def ask_services(endpoints: Endpoints) -> list[Answer]:
    """Ask all services at once, for five seconds at most; return one answer for each instance, by service."""
    services = {"trainer": endpoints.trainer, "scorer": endpoints.scorer, "oracle": endpoints.oracle}
    asked = [_ask_all(service, address, endpoints.tls_dir) for service, address in services.items()]
    return [answer for answers in await asyncio.gather(*asked) for answer in answers]


async def _ask_all(service: str, address: str, tls_dir: Path | None) -> list[Answer]:
    """Ask each address of a service's name or, if it has one, that address over several connections."""
    host, numbers = await _addresses(address)
    places = [(number, host) for number in numbers] if len(numbers) > 1 else [(address, "")] * _CONNECTIONS
    answers = await asyncio.gather(*(_ask(service, where, name, tls_dir) for where, name in places))
    by_instance = {answer.response.instance if answer.response else answer.address: answer for answer in answers}
    return [by_instance[instance] for instance in sorted(by_instance)]


async def _addresses(address: str) -> tuple[str, Sequence[str]]:
    """Return the host in HOST:PORT and ADDRESS:PORT of each of its IP addresses; none if it is of another form."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or ":" in host:
        return "", ()
    try:
        infos = await asyncio.get_running_loop().getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
    except OSError:  # the call says what is wrong
        return "", ()
    return host, sorted({f"{info[4][0]}:{port}" for info in infos if info[0] == socket.AF_INET})


async def _ask(service: str, address: str, host: str, tls_dir: Path | None) -> Answer:
    options = [*CHANNEL_OPTIONS, _OWN_CONNECTION]
    async with channel(address, tls_dir, options, host=host) as way:
        sent = datetime.now(UTC)
        try:
            response = await DiagnosticsServiceStub(way).Diagnose(DiagnoseRequest(), timeout=_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            return Answer(service, address, problem=await _why(error, address, host, tls_dir))
    clock = clock_ahead(sent, response.now.ToDatetime(UTC), datetime.now(UTC))
    return Answer(service, address, response, clock=clock)


def clock_ahead(sent: datetime, theirs: datetime, received: datetime) -> timedelta:
    """Return how far a clock is ahead of ours, at least; 0 if its time lies between sending and receiving."""
    return max(theirs - received, timedelta()) - max(sent - theirs, timedelta())


async def _why(error: grpc.aio.AioRpcError, address: str, host: str, tls_dir: Path | None) -> str:
    """Return why a service did not answer; gRPC itself does not say what is wrong with a certificate."""
    if error.code() == grpc.StatusCode.UNIMPLEMENTED:
        return "it is of an earlier version, or no service of labelloop"
    if tls_dir and error.code() == grpc.StatusCode.UNAVAILABLE:
        name, _, port = address.rpartition(":")
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                _, writer = await asyncio.open_connection(
                    name, int(port), ssl=client_context(Renewals(tls_dir)), server_hostname=host or name
                )
            writer.transport.abort()
        except ssl.SSLCertVerificationError as refused:
            return f"its certificate is refused: {refused.verify_message}"
        except (OSError, ValueError) as failed:  # TimeoutError is an OSError
            return f"{failed or error.details() or error.code().name}"
    return f"{error.details() or error.code().name}"
