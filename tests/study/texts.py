"""The study's part on texts: strategies of the product and of other libraries, on features learned from texts.

Its loops and rows are those of the bench ``texts``, so that neither repeats what the other has done.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from tests.bench import texts as bench
from tests.bench.peers.strategy_rows import Loop
from tests.bench.strategy_peers import OURS
from tests.bench.text_sets import SETS, text_sets
from tests.study.plan import DEFAULT, RANDOM, SEEDS

_QUICK_SEEDS = 3


def stages(*, quick: bool, only: str) -> list[list[Loop]]:
    """Return the loops whose names have every word of ``only``; ``quick`` has default and random, 3 seeds."""
    planned = bench.plan(list(SETS), SEEDS[:_QUICK_SEEDS] if quick else SEEDS)
    found = [[loop for loop in stage if _is_wanted(loop, quick, only)] for stage in planned]
    return [stage for stage in found if stage]


def _is_wanted(loop: Loop, quick: bool, only: str) -> bool:
    name = f"texts-{loop.pool}-{loop.features}-{loop.name}-{loop.seed}"
    is_quick = loop.library == OURS and loop.strategy in (DEFAULT, RANDOM)
    return (is_quick or not quick) and all(word in name for word in only.split())


async def study_texts(planned: Sequence[Sequence[Loop]], output: Path, console: Console) -> None:
    """Carry out the loops on the sets that are to be had, and write their table to ``texts.md``."""
    sets, missing = await asyncio.to_thread(text_sets)
    for name, why in missing.items():
        console.print(f"texts: {name} is left out: {why}", markup=False)
    there = [[loop for loop in stage if loop.pool in sets] for stage in planned]
    if any(there):
        await bench.carried_out(sets, [stage for stage in there if stage])
        output.mkdir(parents=True, exist_ok=True)
        shutil.copy(bench.FOLDER / "table.md", output / "texts.md")
        console.print(f"texts: {output / 'texts.md'}", markup=False)
