"""A run on a pool larger than the scorer's disk cache: memory of each service and time of each round.

Environment variables set what is measured: ``GB`` (2) of ``SAMPLES`` (1,000,000) samples of ``DTYPE`` (uint8 or
float32), ``FEATURES`` (pixels, or another kind of features), ``CACHE_GB`` (a fifth of the pool) of disk cache for the
scorer, and ``GUARANTEE=1`` for an audit and the auto-labels that it allows. The folder of temporary files
must hold about three times the pool.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from labelloop.events.v1.events_pb2 import DatasetSource, FeatureKind, GuaranteeSpec, RunSpec
from labelloop.scorer.v1.scorer_pb2 import Strategy
from labelloop.trainer.v1.trainer_pb2 import GetRunRequest, GetRunResponse, Phase, StartRunRequest
from labelloop_cli.clients import Clients, connect
from labelloop_cli.demo.plan import honest_spec
from labelloop_cli.local.stack import Stack, running

_ROUNDS, _BATCH, _CLASSES = 5, 40, 4
_RSS_MAX_GB = 2 * 2**30 / 1e9
_LOOK_EVERY_S = 0.2
_WRITTEN_BYTES = 2**26
_AUDIT = 600


@dataclass(frozen=True)
class _Wanted:
    """The pool to make, and how to run on it."""

    gb: float
    samples: int
    dtype: np.dtype[Any]
    features: str
    cache_gb: float
    guarantee: bool

    @classmethod
    def from_environment(cls) -> _Wanted:
        gb = float(os.environ.get("GB", "2"))
        return cls(
            gb,
            int(os.environ.get("SAMPLES", "1000000")),
            np.dtype(os.environ.get("DTYPE", "uint8")),
            os.environ.get("FEATURES", "pixels"),
            float(os.environ.get("CACHE_GB", str(gb / 5))),
            os.environ.get("GUARANTEE", "") == "1",
        )

    @property
    def width(self) -> int:
        """Values of a sample."""
        return max(2, round(self.gb * 1e9 / self.samples / self.dtype.itemsize))


async def large_pool() -> dict[str, Any]:
    """Measure the memory that no file stands behind, of each service at its peak, over five rounds with labels from
    the dataset."""
    wanted = _Wanted.from_environment()
    with TemporaryDirectory() as name:
        folder = Path(name)
        await asyncio.to_thread(_write, wanted, folder)
        with _environment({"LABELLOOP_CACHE_GB": str(wanted.cache_gb)}):
            async with (
                running(folder / "store", pools_dir=folder) as stack,
                connect(stack.endpoints) as clients,
                _peaks(stack) as peaks,
            ):
                begin = time.perf_counter()
                whole = await _run(clients, wanted, folder)
                seconds = time.perf_counter() - begin
    largest = max(peaks.values()) / 1e9
    finished = whole.run.phase == Phase.PHASE_FINISHED
    return {
        "value": largest,
        "unit": "GB at the peak of the largest service, without mapped files",
        "target": f"at most {_RSS_MAX_GB:.3g}, and the run ends",
        "met": largest <= _RSS_MAX_GB and finished,
        "detail": {
            "gb": wanted.gb,
            "samples": wanted.samples,
            "values": wanted.width,
            "dtype": wanted.dtype.name,
            "features": wanted.features,
            "cache_gb": wanted.cache_gb,
            "peak_mb": {service: peak / 1e6 for service, peak in peaks.items()},
            "seconds": seconds,
            "seconds_by_round": _seconds_by_round(whole),
            "fit_seconds_by_round": [result.fit_s for result in whole.rounds],
            "auto_labels": whole.run.auto_labels,
            "ended": whole.run.message,
        },
    }


def _write(wanted: _Wanted, folder: Path) -> None:
    """Write ``pool.npy`` and ``labels.npy``: distinct samples around the centre of their class."""
    rng = np.random.default_rng(0)
    centres = rng.uniform(60, 190, (_CLASSES, wanted.width)).astype(np.float32)
    labels = rng.integers(0, _CLASSES, wanted.samples).astype(np.int32)
    np.save(folder / "labels.npy", labels)
    header = {"descr": wanted.dtype.str, "fortran_order": False, "shape": (wanted.samples, wanted.width)}
    at_once = max(1, _WRITTEN_BYTES // (4 * wanted.width))
    with (folder / "pool.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, wanted.samples, at_once):
            some = labels[start : start + at_once]
            noise = rng.integers(-60, 61, (len(some), wanted.width), np.int8)
            file.write((centres[some] + noise).astype(wanted.dtype).tobytes())


async def _run(clients: Clients, wanted: _Wanted, folder: Path) -> GetRunResponse:
    await clients.trainer.StartRun(StartRunRequest(run_id="large", spec=_spec(wanted, folder)), wait_for_ready=True)
    async for _ in clients.watch("large"):
        pass
    return await clients.trainer.GetRun(GetRunRequest(run_id="large"))


def _spec(wanted: _Wanted, folder: Path) -> RunSpec:
    spec = honest_spec(
        Strategy.STRATEGY_MARGIN,
        1,
        batch_size=_BATCH,
        first_batch_size=_BATCH,
        label_budget=_ROUNDS * _BATCH,
        features=FeatureKind.Value(f"FEATURE_KIND_{wanted.features.upper()}"),
    )
    spec.dataset.CopyFrom(DatasetSource(name=str(folder / "pool.npy"), labels=str(folder / "labels.npy")))
    if wanted.guarantee:
        spec.guarantee.CopyFrom(GuaranteeSpec(target_accuracy=0.9, confidence=0.95, audit_size=_AUDIT))
    return spec


def _seconds_by_round(whole: GetRunResponse) -> list[float]:
    """Return the seconds from the start to the first model, with the reading of the pool, and between models."""
    at = [whole.run.started_at, *(result.recorded_at for result in whole.rounds)]
    return [float(each) for each in np.diff([moment.ToNanoseconds() / 1e9 for moment in at])]


@asynccontextmanager
async def _peaks(stack: Stack) -> AsyncIterator[dict[str, int]]:
    """Yield the largest RssAnon of each service so far, in bytes."""
    assert stack.broker is not None, "it is started here"
    pids = {"nats-server": stack.broker.pid}
    for name, service in stack.services.items():
        assert service.process is not None, "services are up"
        pids[name] = service.process.pid
    peaks = dict.fromkeys(pids, 0)

    async def look() -> None:
        while True:
            for name, pid in pids.items():
                peaks[name] = max(peaks[name], _anonymous_bytes(pid))
            await asyncio.sleep(_LOOK_EVERY_S)

    looking = asyncio.create_task(look())
    try:
        yield peaks
    finally:
        looking.cancel()


def _anonymous_bytes(pid: int) -> int:
    fields = (line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return next(int(field[1]) for field in fields if field[0] == "RssAnon:") * 1024


@contextmanager
def _environment(changes: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables, which services inherit, and restore them."""
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
