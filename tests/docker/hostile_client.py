"""Try to do harm to the stack's published ports, and end with what succeeded.

Run where the ports are, with the names of the files below /data that the stack's oracle reads.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
from labelloop.errors import LabelloopError, from_rpc
from labelloop.events.v1.events_pb2 import DatasetSource, Event, FeatureKind, Protocol, RunSpec
from labelloop.oracle.v1.oracle_pb2 import GetBacklogRequest
from labelloop.runtime.descriptors import raise_descriptor_limit
from labelloop.trainer.v1.trainer_pb2 import ImportRunRequest, Phase, StartRunRequest
from labelloop_cli.clients import Clients, Endpoints, connect

from tests.blobs import Blobs, spec
from tests.docker.stack import PORTS
from tests.e2e.driving import finish, start
from tests.half_open import half_open

ROLES = ("name", "labels", "evaluation", "evaluation_labels", "graph", "embeddings")
FILES = (
    *("/etc/passwd", "/etc/no-such-file", "/proc/self/environ", "/proc/1/root/etc/passwd", "/sys/kernel/vmcoreinfo"),
    *("/data/../etc/passwd", "/cache", "/opt/labelloop/oracle_svc/service.py", "file:///etc/passwd", "upload:../../x"),
)
HALF_OPEN = 1_500
BEGUN = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0"


def spec_of(source: DatasetSource) -> RunSpec:
    files = Blobs(*map(Path, (source.name, source.labels, "", "")))
    made = spec(files, dataset=source, protocol=Protocol.PROTOCOL_HONEST, auto_label_budget=0, auto_label_batch_size=0)
    made.stopping_sample_count = 0
    if source.graph:
        made.features = FeatureKind.FEATURE_KIND_GRAPH
    return made


async def refused(call: Awaitable[object]) -> LabelloopError | None:
    """Return why the call was refused; None if it was not."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        ours = from_rpc(error)
        if ours is None:
            raise
        return ours
    return None


async def read_files(clients: Clients, honest: DatasetSource) -> AsyncIterator[str]:
    """Have a run read what it may not; whether a file exists must not show."""
    said = set[str]()
    for role in ROLES:
        for number, file in enumerate(FILES):
            source = DatasetSource()
            source.CopyFrom(honest)
            setattr(source, role, file)
            error = await refused(
                clients.trainer.StartRun(StartRunRequest(run_id=f"read-{role}-{number}", spec=spec_of(source)))
            )
            if error is None:
                yield f"{role}={file} was accepted"
            elif error.field.rpartition(".")[2] != role:
                yield f"{role}={file} was refused for {error.field}: {error.message}"
            elif file.startswith("/etc"):
                said.add(f"{error.reason} {error.message.replace(file, '...')}".replace(role, "role"))
    if len(said) != 1:
        yield f"refusals tell files apart: {said}"


async def compute_much(clients: Clients, honest: DatasetSource, graph: str) -> AsyncIterator[str]:
    source = DatasetSource()
    source.CopyFrom(honest)
    source.graph = graph
    error = await refused(clients.trainer.StartRun(StartRunRequest(run_id="costly", spec=spec_of(source))))
    if error is None:
        run = (await finish(clients, "costly")).run
        if run.phase != Phase.PHASE_FAILED or "cannot serve as a model" not in run.message:
            yield f"a costly graph was used: {run.message}"
    elif error.reason not in ("MODEL_TOO_COSTLY", "BAD_MODEL"):
        yield f"a costly graph is refused for another reason: {error.reason} {error.message}"


async def import_junk(clients: Clients) -> AsyncIterator[str]:
    async def junk() -> AsyncIterator[ImportRunRequest]:
        for number in range(100_000):
            yield ImportRunRequest(event=Event(run_id="junk", round=number))

    async def call() -> None:
        await clients.trainer.ImportRun(junk())

    if await refused(call()) is None:
        yield "an import of events without content was accepted"


async def flood(clients: Clients, honest: DatasetSource) -> AsyncIterator[str]:
    """Hold connections that ask nothing open on each port, while an honest run goes on to its end."""
    async with AsyncExitStack() as floods:
        await clients.oracle.GetBacklog(GetBacklogRequest())
        for port in PORTS.values():
            await floods.enter_async_context(half_open(f"http://127.0.0.1:{port}", HALF_OPEN, BEGUN))
        await start(clients, "honest", spec_of(honest))
        run = (await finish(clients, "honest")).run
    if run.phase != Phase.PHASE_FINISHED:
        yield f"an honest run did not finish: {run.message}"


async def main(samples: str, labels: str, graph: str) -> list[str]:
    raise_descriptor_limit()
    honest = DatasetSource(name=f"/data/{samples}", labels=f"/data/{labels}")
    async with connect(Endpoints()) as clients:
        attacks = (
            read_files(clients, honest),
            compute_much(clients, honest, f"/data/{graph}"),
            import_junk(clients),
            flood(clients, honest),
        )
        return [harm for attack in attacks async for harm in attack]


if __name__ == "__main__":
    sys.exit("\n".join(asyncio.run(main(*sys.argv[1:]))) or 0)
