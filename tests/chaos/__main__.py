"""``python -m tests.chaos``: inject faults and check that nothing is lost; writes out/chaos/results.json."""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from typing import Annotated

import typer
from labelloop.observability.logs import set_up_logs
from labelloop_cli.local.nats.binary import find_or_get
from platformdirs import user_cache_path

from tests.chaos.campaign import FAULTS, RESULTS, Campaign, Missing, campaign
from tests.chaos.crash_points import crash_fault, crash_points
from tests.chaos.schedules import run_many
from tests.chaos.table import table
from tests.chaos.trial import Outcome


def main(
    seconds: Annotated[float, typer.Option(help="Go on with new seeds for so long; 0: every fault once.")] = 0,
    schedules: Annotated[int, typer.Option(help="Simulated schedules to run before.")] = 0,
    seed: Annotated[int, typer.Option(help="Decides the moments and the draws.")] = 1,
    only: Annotated[str, typer.Option(help="Only the faults whose name holds this.")] = "",
) -> None:
    """Run simulated schedules, then real processes under every fault. Exit with 1 if an invariant was violated."""
    set_up_logs("chaos", "text", "error")
    found = run_many(seed, schedules) if schedules else []
    print(*found, sep="\n", end="\n" if found else "")
    trials = asyncio.run(_carry_out(seconds, seed, only, schedules, len(found)))
    print(table(trials.outcomes))
    bad = [outcome for outcome in trials.outcomes if outcome.violations]
    print(f"{len(trials.outcomes)} runs, {len(bad)} with violations; {RESULTS} written")
    for outcome in bad:
        print(f"again: make chaos SEED={outcome.seed} ONLY='{outcome.fault}'")
    sys.exit(1 if bad or found or not trials.outcomes else 0)


async def _carry_out(seconds: float, seed: int, only: str, schedules: int, violated: int) -> Campaign:
    binary = await asyncio.to_thread(find_or_get, user_cache_path("labelloop"))
    with tempfile.TemporaryDirectory(prefix="labelloop-chaos-", ignore_cleanup_errors=True) as folder:
        async with campaign(Path(folder), binary) as trials:
            trials.schedules, trials.schedules_violated = schedules, violated
            until = time.monotonic() + seconds
            for turn in count(seed):
                async for outcome in _turn(trials, turn, only):
                    _say(outcome)
                    if seconds and time.monotonic() > until:
                        return trials
                if time.monotonic() >= until:
                    return trials
    raise AssertionError("there is always another turn")


async def _turn(trials: Campaign, seed: int, only: str) -> AsyncIterator[Outcome]:
    """Try every fault and crash point once, grouped by ``where``."""
    faults = [*FAULTS, *(crash_fault(point) for point in crash_points(seed))]
    faults = [fault for fault in faults if only in fault.name]
    random.Random(seed).shuffle(faults)
    turns = {fault.where: place for place, fault in enumerate(faults)}
    for fault in sorted(faults, key=lambda fault: turns[fault.where]):
        try:
            yield await trials.try_out(fault, seed)
        except Missing as missing:
            print(f"skipped: {fault.name}: needs {missing}")


def _say(outcome: Outcome) -> None:
    recovery = f"{outcome.recovery_s:5.2f} s" if outcome.recovery_s is not None else "       "
    print(f"seed {outcome.seed:4}  {recovery}  {outcome.fault}  {'; '.join(outcome.violations)}", flush=True)


if __name__ == "__main__":
    typer.run(main)
