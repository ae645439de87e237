"""Faults: full disks, a flipped bit, a clock that jumps."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from labelloop.artifacts.formats import PoolManifest
from labelloop.trainer.v1.trainer_pb2 import GetRunRequest

from tests.chaos.trial import Fault, Trial

_FULL_S = 3.0


def _fill(folder: Path) -> Path:
    """Write until the disk is full; return the file that fills it."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (65_536, 4_096, 512):
            try:
                while file.write(b"\0" * size):
                    pass
            except OSError:  # full for writes of this size
                continue
    return ballast


async def _fill_artifacts(trial: Trial) -> None:
    folder = Path(trial.world.services["trainer"].environment["LABELLOOP_ARTIFACTS_URL"].removeprefix("file://"))
    _forget_models(trial, folder)
    await trial.reach()
    ballast = _fill(folder)
    try:
        await _held_up(trial, "artifact store")
    finally:
        ballast.unlink()
        await trial.over("trainer")


def _forget_models(trial: Trial, folder: Path) -> None:
    """Delete models: those of the calm run are the same bytes and would not be written again."""
    pools = [seen.event.pool_published for run in trial.world.watch.runs.values() for seen in run]
    kept = {digest for pool in pools for digest in (pool.pool_sha256, pool.evaluation_sha256, pool.labels_sha256)}
    for pool in pools:
        if pool.pool_sha256:
            manifest = PoolManifest.from_bytes((folder / pool.pool_sha256).read_bytes())
            kept.update(manifest.artifacts)
    for path in folder.iterdir():
        if path.name not in kept:
            path.unlink()


async def _held_up(trial: Trial, why: str) -> None:
    """Wait until the run reports that ``why`` holds it up."""
    while True:
        run = (await trial.world.clients.trainer.GetRun(GetRunRequest(run_id=trial.run_id))).run
        if why in run.message:
            return
        await asyncio.sleep(0.05)


async def _fill_broker(trial: Trial) -> None:
    """Free a full disk and restart the broker, as an operator would: JetStream has switched itself off."""
    broker = trial.world.the_broker
    await trial.reach()
    ballast = _fill(broker.store.folder)
    await asyncio.sleep(_FULL_S)
    ballast.unlink()
    await broker.stop()
    await broker.start()
    await trial.over()


async def _flip_bit(trial: Trial) -> None:
    """Flip a bit of the pool's manifest, which the restarted scorer has to read: the run reports it and waits."""
    folder = Path(trial.world.services["trainer"].environment["LABELLOOP_ARTIFACTS_URL"].removeprefix("file://"))
    await trial.reach()
    scorer = trial.world.services["scorer"].process
    assert scorer is not None, "services are up"
    os.kill(scorer.pid, signal.SIGSTOP)
    seen = [s for s in trial.world.watch.runs[trial.run_id] if s.kind == "pool_published"]
    pool = folder / seen[0].event.pool_published.pool_sha256
    whole = pool.read_bytes()
    at = trial.rng.randrange(len(whole))
    pool.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << trial.rng.randrange(8)]) + whole[at + 1 :])
    os.kill(scorer.pid, signal.SIGKILL)
    try:
        await _held_up(trial, "other bytes")
    finally:
        pool.write_bytes(whole)
        await trial.over("trainer")


async def _move_clock(trial: Trial) -> None:
    clock = Path(trial.world.services["trainer"].environment["FAKETIME_TIMESTAMP_FILE"])
    for hours in trial.rng.sample(["+1h", "-1h", "+0"], 3):
        await trial.reach(0, 0.5)
        clock.write_text(hours)
        await asyncio.sleep(0.3)
    clock.write_text("+0")
    await trial.over()


FAULTS = [
    Fault("artifact store full", "a small tmpfs filled to the last byte, emptied later", _fill_artifacts, "small disk"),
    Fault(
        "broker's disk full", "a small tmpfs filled; then emptied and the broker restarted", _fill_broker, "small disk"
    ),
    Fault(
        "bit flipped in an artifact",
        "one bit of the pool's manifest, read anew by a scorer that was killed: reported, mended, never used",
        _flip_bit,
        "small disk",
    ),
    Fault("clock moved", "the services' clock an hour on and back in mid-run (libfaketime)", _move_clock, "clock"),
]
