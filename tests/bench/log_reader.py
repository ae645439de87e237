"""Read the log as one service does, and print what that took as JSON.

Usage: ``python -m tests.bench.log_reader SERVICE URL FOLDER``, where snapshots are kept in FOLDER.
Memory is the resident memory beyond that of the same process before it read the first event.
"""

from __future__ import annotations

import asyncio
import cProfile
import gc
import json
import os
import pstats
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from labelloop.domain.summaries import Summaries
from labelloop.eventlog.connection import connect
from labelloop.eventlog.log import EventLog
from labelloop.eventlog.log_snapshots import LogSnapshots
from labelloop.eventlog.projections import RunProjections
from labelloop.events.v1.events_pb2 import Event
from labelloop.observability.logs import set_up_logs

PROFILE = "LABELLOOP_BENCH_PROFILE"
SERVICES = ("trainer", "scorer", "oracle")


def projections_of(service: str) -> tuple[RunProjections[Any], Summaries]:
    """Build the projections of a service, and how it keeps what it shows of ended runs; imports no other service."""
    match service:
        case "trainer":
            from trainer_svc.domain.run_state import RunState
            from trainer_svc.status import STATUSES, status_of

            return RunProjections(RunState.begin, status_of), STATUSES
        case "scorer":
            from labelloop.domain.run_log import RunLog

            from scorer_svc.models.latest import MODELS, LatestModel, model_of

            def begin(event: Event, at: datetime) -> LatestModel:
                return LatestModel(RunLog(event.run_started), event.run_id, lambda _: None)

            return RunProjections(begin, model_of), MODELS
        case _:
            from oracle_svc.domain.labeling_state import LabelingState
            from oracle_svc.domain.listed_run import ENDED_RUNS, ended_run

            return RunProjections(LabelingState.begin, ended_run), ENDED_RUNS


def resident_mb() -> float:
    """Return this process's resident memory."""
    fields = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return next(int(field[1]) for field in fields if field[0] == "VmRSS:") * 1024 / 1e6


async def read(service: str, url: str, folder: Path) -> dict[str, float]:
    """Read the log, and return the seconds, CPU seconds and megabytes that this took.

    A snapshot in ``folder`` is used if there is one, and one is taken there.
    """
    projections, summaries = projections_of(service)
    client = await connect(url, "bench")
    log = EventLog(client)
    last = await log.last_sequence()
    gc.collect()
    before, start, cpu = resident_mb(), time.perf_counter(), time.process_time()
    snapshots = LogSnapshots(folder, service, log, projections, summaries)
    await snapshots.restore()
    took: dict[str, float] = {"from_snapshot": projections.sequence}
    following = asyncio.create_task(projections.follow(log))
    await projections.wait_for(last)
    took |= {"seconds": time.perf_counter() - start, "cpu_s": time.process_time() - cpu}
    gc.collect()
    took["mb"] = resident_mb() - before
    took["refused"] = len(projections.refused)
    start = time.perf_counter()
    await snapshots.take()
    took["snapshot_s"] = time.perf_counter() - start
    took["snapshot_mb"] = sum(file.stat().st_size for file in folder.glob(f"{service}-*.snapshot")) / 1e6
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    await client.close()
    return took


def main() -> None:
    service, url, folder = sys.argv[1:]
    set_up_logs("bench", "text", "warning")
    profile = cProfile.Profile() if os.environ.get(PROFILE) else None
    if profile:
        profile.enable()
    took = asyncio.run(read(service, url, Path(folder)))
    if profile:
        profile.disable()
        pstats.Stats(profile, stream=sys.stderr).sort_stats("tottime").print_stats(25)
    print(json.dumps(took))


if __name__ == "__main__":
    main()
