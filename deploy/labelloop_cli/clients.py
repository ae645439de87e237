"""Connect the command line to the trainer, scorer and oracle over gRPC."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
from labelloop.errors import LabelloopError, Unready, WrongState, from_rpc
from labelloop.oracle.v1.oracle_pb2_grpc import OracleServiceStub
from labelloop.rpc.server import CHANNEL_OPTIONS
from labelloop.rpc.statuses import is_away
from labelloop.rpc.tls import channel
from labelloop.scorer.v1.scorer_pb2_grpc import ScorerServiceStub
from labelloop.trainer.v1 import trainer_pb2 as pb
from labelloop.trainer.v1.trainer_pb2_grpc import TrainerServiceStub
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from labelloop_cli.output.console import tell
from labelloop_cli.repeated_calls import Patience

if TYPE_CHECKING:
    from labelloop.oracle.v1.oracle_pb2_grpc import OracleServiceAsyncStub
    from labelloop.scorer.v1.scorer_pb2_grpc import ScorerServiceAsyncStub
    from labelloop.trainer.v1.trainer_pb2_grpc import TrainerServiceAsyncStub


class Endpoints(BaseSettings):
    """Addresses of the services, from ``LABELLOOP_<NAME>`` environment variables.

    Attributes:
        trainer: The trainer's address.
        scorer: The scorer's address.
        oracle: The oracle's address.
        nats_url: The broker, which only `labelloop run archive`, `delete` and `clear --purge` connect to.
        nats_nkey_file: The seed of the operator's key, where the broker asks for keys.
        artifacts_url: Where artifacts lie, for `labelloop run archive` and `delete`: jetstream: or any fsspec URL.
        tls_dir: A folder of ca.crt, tls.crt and tls.key: connections to the services then use TLS.
        retry_s: Seconds for which a service that does not answer is asked again, if that is safe; 0 for not at all.
    """

    model_config = SettingsConfigDict(env_prefix="LABELLOOP_", frozen=True)

    trainer: str = Field("127.0.0.1:50051")
    scorer: str = Field("127.0.0.1:50052")
    oracle: str = Field("127.0.0.1:50053")
    nats_url: str = Field("nats://127.0.0.1:4222")
    nats_nkey_file: Path | None = None
    artifacts_url: str = Field("jetstream:")
    tls_dir: Path | None = None
    retry_s: float = Field(30.0, ge=0)


# Other replicas are found, and services that come back, within the seconds for which calls are repeated.
_FIND_OTHERS_SOON = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.dns_min_time_between_resolutions_ms", 1_000),
]


@dataclass(frozen=True)
class Clients:
    trainer: TrainerServiceAsyncStub
    scorer: ScorerServiceAsyncStub
    oracle: OracleServiceAsyncStub

    async def watch(self, run_id: str) -> AsyncGenerator[pb.RunStatus]:
        """Yield a run's current status and each change until it ends, reconnecting when the trainer comes back."""
        while True:
            try:
                async for response in self.trainer.WatchRun(pb.WatchRunRequest(run_id=run_id), wait_for_ready=True):
                    yield response.run
                return
            except grpc.aio.AioRpcError as error:
                if not is_away(error):
                    raise

    async def labels(self, run_id: str) -> list[pb.LabelRecord]:
        """List all labels and auto-labels of a run, in the order of its training set."""
        request = pb.ListLabelsRequest(run_id=run_id)
        return [record async for part in self.trainer.ListLabels(request) for record in part.labels]


def _tell_one(note: str) -> None:
    tell([note])


@asynccontextmanager
async def connect(endpoints: Endpoints, told: Callable[[str], None] = _tell_one) -> AsyncIterator[Clients]:
    """Open clients of all three services, and raise a gRPC error from the block as a LabelloopError.

    Calls that are safe to repeat are repeated while a service is away, and while it has not heard of a new run yet.

    Args:
        told: Called with a sentence when such a wait begins.
    """

    async def trainer_knows(run_id: str) -> bool:
        try:
            await clients.trainer.GetRun(pb.GetRunRequest(run_id=run_id))
        except grpc.aio.AioRpcError:  # the caller reports the error that led to this question
            return False
        return True

    patience = Patience(endpoints.retry_s, told, trainer_knows)
    async with AsyncExitStack() as stack:

        async def opened(service: str, address: str) -> grpc.aio.Channel:
            options = [*CHANNEL_OPTIONS, *_FIND_OTHERS_SOON]
            around = patience.interceptors(service, address)
            return await stack.enter_async_context(channel(address, endpoints.tls_dir, options, interceptors=around))

        clients = Clients(
            TrainerServiceStub(await opened("trainer", endpoints.trainer)),
            ScorerServiceStub(await opened("scorer", endpoints.scorer)),
            OracleServiceStub(await opened("oracle", endpoints.oracle)),
        )
        try:
            yield clients
        except grpc.aio.AioRpcError as error:
            raise as_ours(error, endpoints) from error


def as_ours(error: grpc.aio.AioRpcError, endpoints: Endpoints) -> LabelloopError:
    """Return the error that a service raised; of any other status, one that says what to do."""
    ours = from_rpc(error)
    if ours is not None:
        return ours
    if is_away(error):
        where = f"trainer {endpoints.trainer}, scorer {endpoints.scorer}, oracle {endpoints.oracle}"
        message = (
            f"a service does not answer ({where}); start them with `labelloop up`, or say where they are with "
            "LABELLOOP_TRAINER, LABELLOOP_SCORER and LABELLOOP_ORACLE"
            + ("" if endpoints.tls_dir else "; where they take TLS only, set LABELLOOP_TLS_DIR")
        )
        return Unready("SERVICE_AWAY", message)
    return WrongState("CALL_FAILED", f"a service failed: {error.code().name}: {error.details()}")
