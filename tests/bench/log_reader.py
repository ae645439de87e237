"""``python -m tests.bench.log_reader SERVICE URL``: read the log as one service does, and print what that took as JSON.

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
from pathlib import Path
from typing import Any

from labelloop.eventlog.connection import connect
from labelloop.eventlog.log import EventLog
from labelloop.eventlog.projections import RunProjections

PROFILE = "LABELLOOP_BENCH_PROFILE"
SERVICES = ("trainer", "scorer", "oracle")


def projections_of(service: str) -> RunProjections[Any]:
    """Build the projections of a service; imports no other service."""
    match service:
        case "trainer":
            from trainer_svc.domain.run_state import RunState
            from trainer_svc.status import status_of

            return RunProjections(RunState.begin, status_of)
        case "scorer":
            from labelloop.domain.run_log import RunLog

            from scorer_svc.models.latest import LatestModel

            return RunProjections(lambda event, _: LatestModel(RunLog(event.run_started), event.run_id, lambda _: None))
        case _:
            from oracle_svc.domain.labeling_state import LabelingState
            from oracle_svc.domain.listed_run import ended_run

            return RunProjections(LabelingState.begin, ended_run)


def resident_mb() -> float:
    """Return this process's resident memory."""
    fields = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return next(int(field[1]) for field in fields if field[0] == "VmRSS:") * 1024 / 1e6


async def read(service: str, url: str) -> dict[str, float]:
    """Read the whole log, and return the seconds, CPU seconds and megabytes that this took."""
    projections = projections_of(service)
    client = await connect(url, "bench")
    log = EventLog(client)
    last = await log.last_sequence()
    gc.collect()
    before, start, cpu = resident_mb(), time.perf_counter(), time.process_time()
    following = asyncio.create_task(projections.follow(log))
    await projections.wait_for(last)
    took = {"seconds": time.perf_counter() - start, "cpu_s": time.process_time() - cpu}
    gc.collect()
    took["mb"] = resident_mb() - before
    took["refused"] = len(projections.refused)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    await client.close()
    return took


def main() -> None:
    service, url = sys.argv[1:]
    profile = cProfile.Profile() if os.environ.get(PROFILE) else None
    if profile:
        profile.enable()
    took = asyncio.run(read(service, url))
    if profile:
        profile.disable()
        pstats.Stats(profile, stream=sys.stderr).sort_stats("tottime").print_stats(25)
    print(json.dumps(took))


if __name__ == "__main__":
    main()
