"""``python -m tests.chaos``: break things and see that nothing is lost; writes out/chaos/results.json."""

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
from labelloop.wire.telemetry import set_up_logs
from labelloop_cli.nats_binary import find_or_get
from platformdirs import user_cache_path
from rich.console import Console

from tests.chaos.campaign import FAULTS, RESULTS, Campaign, Missing, campaign
from tests.chaos.crash_points import crash_fault, crash_points
from tests.chaos.table import table
from tests.chaos.trial import Outcome

console = Console()


def main(
    seconds: Annotated[float, typer.Option(help="Go on with new seeds for so long; 0: every fault once.")] = 0,
    seed: Annotated[int, typer.Option(help="Decides the moments and the draws.")] = 1,
    only: Annotated[str, typer.Option(help="Only the faults whose name holds this.")] = "",
) -> None:
    """Real processes under every fault. Leaves with 1 where an invariant was violated."""
    set_up_logs("chaos", "text", "error")
    outcomes = asyncio.run(_carry_out(seconds, seed, only))
    console.print(table(outcomes))
    bad = [outcome for outcome in outcomes if outcome.violations]
    console.print(f"{len(outcomes)} runs, {len(bad)} with violations; {RESULTS} written")
    for outcome in bad:
        console.print(f"again: make chaos SEED={outcome.seed} ONLY='{outcome.fault}'", highlight=False)
    sys.exit(1 if bad or not outcomes else 0)


async def _carry_out(seconds: float, seed: int, only: str) -> list[Outcome]:
    until = time.monotonic() + seconds
    binary = await asyncio.to_thread(find_or_get, user_cache_path("labelloop"))
    with tempfile.TemporaryDirectory(prefix="labelloop-chaos-", ignore_cleanup_errors=True) as folder:
        async with campaign(Path(folder), binary) as trials:
            for turn in count(seed):
                async for outcome in _turn(trials, turn, only):
                    _say(outcome)
                    if seconds and time.monotonic() > until:
                        return trials.outcomes
                if time.monotonic() > until:
                    return trials.outcomes
    return []


async def _turn(trials: Campaign, seed: int, only: str) -> AsyncIterator[Outcome]:
    """Every fault and every crash point once, those of one world together."""
    faults = [*FAULTS, *(crash_fault(point) for point in crash_points(seed))]
    faults = [fault for fault in faults if only in fault.name]
    random.Random(seed).shuffle(faults)
    for fault in sorted(faults, key=lambda fault: fault.where):
        try:
            yield await trials.try_out(fault, seed)
        except Missing as missing:
            console.print(f"skipped: {fault.name}: needs {missing}")


def _say(outcome: Outcome) -> None:
    recovery = f"{outcome.recovery_s:5.2f} s" if outcome.recovery_s is not None else "       "
    console.print(
        f"seed {outcome.seed:4}  {recovery}  {outcome.fault}  {'; '.join(outcome.violations)}", highlight=False
    )


if __name__ == "__main__":
    typer.run(main)
