"""Memory and time of an oracle that describes, publishes and answers for pools that are larger than its memory."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
from labelloop.eventlog.connection import connect
from labelloop.eventlog.log import EventLog
from labelloop.eventlog.subjects import EVERYTHING
from labelloop.events.v1.events_pb2 import (
    DatasetSource,
    Event,
    LabelSource,
    LabelsRequested,
    Protocol,
    RunSpec,
    RunStarted,
)
from labelloop.oracle.v1.oracle_pb2 import DescribeDatasetRequest, FindSamplesRequest, ListRequestsRequest
from labelloop.oracle.v1.oracle_pb2_grpc import OracleServiceStub
from labelloop_cli.local.nats.binary import find_or_get
from labelloop_cli.local.nats.server import NatsServer
from labelloop_cli.local.stack import Service
from platformdirs import user_cache_path

if TYPE_CHECKING:
    from labelloop.oracle.v1.oracle_pb2_grpc import OracleServiceAsyncStub

_GIB = 1024**3
_ANON_MAX = _GIB
_SAMPLE_BYTES = 2_048
_BLOCK_BYTES = 32 * 1024 * 1024
_ASKED = 100
_SHOWN = 10
_LOOK_EVERY_S = 0.05


@dataclass(frozen=True)
class _Pool:
    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def size(self) -> int:
        return int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize


async def large_pools() -> dict[str, Any]:
    """Measure the oracle's anonymous memory over a pool of ``POOL_GIB`` GiB (3) and one of 200,000 x 1,800 float32.

    Pools and artifacts lie in ``POOL_FOLDER``, which needs twice as much room; they are removed.
    ``POOL_SAMPLE_BYTES`` (2,048) is the size of a sample of the first. ``POOL_SPARSE=1`` leaves it empty, so that it
    takes no room: all of its samples are equal then.
    """
    sample_bytes = int(os.environ.get("POOL_SAMPLE_BYTES", _SAMPLE_BYTES))
    count = int(float(os.environ.get("POOL_GIB", "3")) * _GIB) // sample_bytes
    pools = [_Pool("bytes", (count, sample_bytes), "uint8"), _Pool("floats", (200_000, 1_800), "float32")]
    measured = {pool.name: await _measured(pool) for pool in pools}
    worst = max(each["peak_anonymous_bytes"] for each in measured.values())
    return {
        "value": worst / _GIB,
        "unit": "GiB of anonymous memory at most",
        "target": f"under {_ANON_MAX / _GIB:.0f} GiB",
        "met": worst < _ANON_MAX,
        "detail": measured,
    }


async def _measured(pool: _Pool) -> dict[str, Any]:
    with TemporaryDirectory(dir=os.environ.get("POOL_FOLDER")) as text:
        folder = Path(text)
        source = await asyncio.to_thread(_write, pool, folder)
        async with _oracle(folder) as (service, nats_url):
            assert service.process is not None, "the service is up"
            peak = _Peak(service.process.pid)
            idle, watching = peak.now(), asyncio.create_task(peak.watch())
            seconds = await _carried_out(service.address, nats_url, source)
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
    return {
        "pool_bytes": pool.size,
        "samples": pool.shape[0],
        "idle_anonymous_bytes": idle,
        "peak_anonymous_bytes": peak.most,
        "peak_over_pool": peak.most / pool.size,
        "seconds": seconds,
        "bytes_per_s": {step: pool.size / seconds[step] for step in ("describe", "publish")},
    }


def _write(pool: _Pool, folder: Path) -> DatasetSource:
    """Write a pool of distinct samples block by block, unless it is to be sparse, with labels of ten classes."""
    path, rng = folder / "x.npy", np.random.default_rng(0)
    with path.open("wb") as file:
        descr = np.lib.format.dtype_to_descr(np.dtype(pool.dtype))
        header = {"descr": descr, "fortran_order": False, "shape": pool.shape}
        np.lib.format.write_array_header_1_0(file, header)
        if os.environ.get("POOL_SPARSE") and pool.name == "bytes":
            file.truncate(file.tell() + pool.size)
        else:
            for start in range(0, pool.size, _BLOCK_BYTES):
                size = min(_BLOCK_BYTES, pool.size - start)
                is_float = pool.dtype == "float32"
                file.write(rng.random(size // 4, np.float32).data if is_float else rng.bytes(size))
    np.save(folder / "y.npy", np.arange(pool.shape[0]) % 10)
    return DatasetSource(name=str(path), labels=str(folder / "y.npy"))


class _Peak:
    """The most anonymous memory of a process: without mapped files and the page cache."""

    def __init__(self, pid: int) -> None:
        self._status, self.most = Path(f"/proc/{pid}/status"), 0

    def now(self) -> int:
        lines = self._status.read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))

    async def watch(self) -> None:
        while True:
            self.most = max(self.most, self.now())
            await asyncio.sleep(_LOOK_EVERY_S)


@asynccontextmanager
async def _oracle(folder: Path) -> AsyncIterator[tuple[Service, str]]:
    binary = await asyncio.to_thread(find_or_get, user_cache_path("labelloop"))
    async with AsyncExitStack() as exits:
        broker = await exits.enter_async_context(NatsServer(binary, folder / "nats"))
        artifacts = os.environ.get("LABELLOOP_ARTIFACTS_URL", f"file://{folder}/artifacts")
        environment = {
            "LABELLOOP_NATS_URL": broker.url,
            "LABELLOOP_ARTIFACTS_URL": artifacts,
            "LABELLOOP_CACHE_DIR": str(folder / "cache"),
        }
        service = Service("oracle", folder, environment)
        exits.push_async_callback(service.stop)
        await service.start()
        yield service, broker.url


async def _carried_out(address: str, nats_url: str, source: DatasetSource) -> dict[str, float]:
    """Have the oracle describe and publish the pool and answer for some of its samples; return the seconds of each."""
    spec = RunSpec(
        dataset=source,
        label_source=LabelSource.LABEL_SOURCE_DATASET,
        label_budget=_ASKED,
        batch_size=_ASKED,
        report_every=1,
        protocol=Protocol.PROTOCOL_HONEST,
    )
    client = await connect(nats_url, "bench")
    log = EventLog(client)
    async with grpc.aio.insecure_channel(address) as channel:
        stub = OracleServiceStub(channel)
        begin = time.perf_counter()
        described = await stub.DescribeDataset(DescribeDatasetRequest(dataset=source))
        seconds = {"describe": time.perf_counter() - begin}
        started = RunStarted(spec=spec, dataset_sha256=described.dataset_sha256)
        await log.append_once(Event(run_id="r", run_started=started))
        seconds["publish"] = await _seconds_until(log, "pool_published", 1)
        asked = np.linspace(0, described.sample_count - 1, _ASKED).astype(int).tolist()
        request = LabelsRequested(sample_ids=asked, score=[0.0] * _ASKED)
        await log.append_once(Event(run_id="r", labels_requested=request))
        seconds["labels"] = await _seconds_until(log, "label_provided", _ASKED)
        begin = time.perf_counter()
        async for _ in stub.FindSamples(FindSamplesRequest(run_id="r")):
            pass
        seconds["names"] = time.perf_counter() - begin
        seconds["requests"] = await _requests(log, stub, spec, asked[:: _ASKED // _SHOWN])
    await client.close()
    return seconds


async def _requests(log: EventLog, stub: OracleServiceAsyncStub, spec: RunSpec, asked: list[int]) -> float:
    """Return the seconds in which people are shown these samples of the same pool."""
    spec.label_source = LabelSource.LABEL_SOURCE_QUEUE
    spec.queue.tool = "list"
    await log.append_once(Event(run_id="people", run_started=RunStarted(spec=spec)))
    await _seconds_until(log, "pool_published", 2)
    await log.append_once(
        Event(run_id="people", labels_requested=LabelsRequested(sample_ids=asked, score=[0.0] * len(asked)))
    )
    begin, shown = time.perf_counter(), 0
    while shown < len(asked):
        shown = len([each async for each in stub.ListRequests(ListRequestsRequest(run_id="people"))])
    return time.perf_counter() - begin


async def _seconds_until(log: EventLog, kind: str, count: int) -> float:
    begin = time.perf_counter()
    async for recorded in log.follow(EVERYTHING):
        assert recorded.event is not None, "every event is readable"
        found = recorded.event.WhichOneof("payload")
        assert found != "run_failed", recorded.event
        count -= found == kind
        if not count:
            break
    return time.perf_counter() - begin
