"""Serve what a service says of itself: version, clock, certificate, broker, disks and runs held up."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from cryptography import x509
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js.api import StreamInfo
from nats.js.errors import NotFoundError

from labelloop import __version__
from labelloop.diagnostics.v1 import diagnostics_pb2 as pb
from labelloop.diagnostics.v1.diagnostics_pb2_grpc import DiagnosticsServiceServicer
from labelloop.domain.hold_ups import HoldUp, message_of
from labelloop.errors import LabelloopError
from labelloop.eventlog.subjects import ARTIFACT_BUCKET, STREAM
from labelloop.settings import ServiceSettings

_STREAMS = (STREAM, f"OBJ_{ARTIFACT_BUCKET}")
_BROKER_TIMEOUT_S = 2.0


ToolsAway = Callable[[], Iterable[HoldUp]]


class Runs(Protocol):
    """The runs that a service advances."""

    problems: dict[str, str]

    def held_up(self) -> list[str]: ...


class Diagnostics(DiagnosticsServiceServicer):
    """Answers for one instance of a service, as far as :meth:`about` told what it uses.

    Args:
        service_name: The full name of its API, for example ``labelloop.trainer.v1.TrainerService``.
    """

    def __init__(self, settings: ServiceSettings, service_name: str) -> None:
        self._settings = settings
        self._service = service_name.removeprefix("labelloop.").partition(".")[0]
        self._client: Client | None = None
        self._runs: Runs | None = None
        self._folders: Sequence[Path] = ()
        self._tools_away: ToolsAway = tuple

    def about(
        self,
        client: Client,
        runs: Runs | None = None,
        folders: Sequence[Path] = (),
        tools_away: ToolsAway = tuple,
    ) -> None:
        """Set the connection to the broker, the runs, the folders and the tools that the service uses."""
        self._client, self._runs, self._folders, self._tools_away = client, runs, folders, tools_away

    async def Diagnose(self, request: pb.DiagnoseRequest, context: Any) -> pb.DiagnoseResponse:  # noqa: N802
        response = pb.DiagnoseResponse(
            service=self._service,
            instance=f"{socket.gethostname()}/{os.getpid()}",
            version=__version__,
            broker=await _broker(self._client) if self._client else None,
            disks=await asyncio.to_thread(_disks, self._folders),
            tools_away=map(message_of, self._tools_away()),
        )
        if self._runs:
            problems = self._runs.problems
            response.held_up.extend(
                pb.HeldUpRun(run_id=run_id, problem=problems.get(run_id, "")) for run_id in self._runs.held_up()
            )
        if folder := self._settings.tls_dir:
            response.certificate_ends.FromDatetime(await asyncio.to_thread(certificate_ends, folder / "tls.crt"))
        response.now.FromDatetime(datetime.now(UTC))  # last: the caller compares it with when the answer comes
        return response


def certificate_ends(path: Path) -> datetime:
    """Return when the first of the certificates in a PEM file ends, in UTC; ValueError if there is none."""
    return min(each.not_valid_after_utc for each in x509.load_pem_x509_certificates(path.read_bytes()))


async def _broker(client: Client) -> pb.Broker:
    if not client.is_connected:
        return pb.Broker(problem="there is no connection to the broker")
    told = client.connected_server_version
    version = f"{told.major}.{told.minor}.{told.patch}"
    try:
        streams = [info for name in _STREAMS if (info := await _stream_info(client, name))]
    except (LabelloopError, NatsError, OSError) as error:
        return pb.Broker(problem=f"the broker does not say how it is: {error or type(error).__name__}", version=version)
    return pb.Broker(version=version, streams=map(_stream, streams))


async def _stream_info(client: Client, name: str) -> StreamInfo | None:
    try:
        return await client.jetstream(timeout=_BROKER_TIMEOUT_S).stream_info(name)
    except NotFoundError:  # nothing was stored there yet
        return None


def _stream(info: StreamInfo) -> pb.Stream:
    followers = info.cluster.replicas or () if info.cluster else ()
    has_leader = info.cluster is None or bool(info.cluster.leader)
    current = has_leader + sum(1 for peer in followers if peer.current and not peer.offline)
    replicas = info.config.num_replicas or 1
    return pb.Stream(name=info.config.name or "", bytes=info.state.bytes, replicas=replicas, current=current)


def _disks(folders: Sequence[Path]) -> list[pb.Disk]:
    return [_disk(folder) for folder in folders]


def _disk(folder: Path) -> pb.Disk:
    """Measure the disk that a folder is or will be on."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    usage = shutil.disk_usage(there)
    return pb.Disk(folder=str(folder), bytes_free=usage.free, bytes=usage.total)
