"""Compare accuracy by labels on two sets of texts: the default strategy, random and margin, and other libraries.

``SEEDS=3`` runs a part of it. Completed loops are not repeated, and an interrupted bench writes the table of those.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

import torch
from labelloop.errors import WrongState

from scorer_svc.models.ort_session import share_memory
from scorer_svc.numerics.blas_threads import use_one_thread
from tests.bench.peers.strategy_rows import Loop, Row, Rows
from tests.bench.strategy_peers import LIBRARIES, OURS, theirs, work
from tests.bench.text_loop import accuracies, loaded, save_features, with_our_fit
from tests.bench.text_results import AT, OUR_FIT, Accuracies, by_strategy, lead, table
from tests.bench.text_sets import TextSet, text_sets
from tests.study.plan import DEFAULT, RANDOM, SEEDS

FOLDER = Path("out/bench/texts")  # rows, and the features of each seed
_FEATURES, _MARGIN = "tfidf", "margin"
_DEFAULT, _RANDOM = f"{OURS} {DEFAULT}", f"{OURS} {RANDOM}"


def plan(sets: Sequence[str], seeds: Sequence[int]) -> list[list[Loop]]:
    """List loops in stages, by seed in each, so that an interrupted bench has what matters most: the default,
    random, and margin, which every library has; then the others."""
    libraries = [(name, each) for name, _, strategies in LIBRARIES.values() for each in strategies]
    stages = [
        [(OURS, DEFAULT), (OURS, RANDOM), (OURS, _MARGIN), *(each for each in libraries if each[1] == _MARGIN)],
        [each for each in libraries if each[1] != _MARGIN],
    ]
    return [[Loop(texts, _FEATURES, *arm, seed) for seed, texts, arm in product(seeds, sets, arms)] for arms in stages]


async def texts() -> dict[str, Any]:
    """Measure the least lead in accuracy, mean over seeds, of the default strategy over the best of the libraries'
    strategies with their own fits, and in how many seeds it is ahead of random, on all sets at 100 and 400 labels."""
    sets, missing = await asyncio.to_thread(text_sets)
    for name, reason in missing.items():
        print(f"{name} is left out: {reason}", flush=True)
    if not sets:
        raise WrongState("NO_TEXTS", f"there are no texts to compare on: {missing}")
    planned = plan(list(sets), SEEDS[: int(os.environ.get("SEEDS", len(SEEDS)))])
    return result(await carried_out(sets, planned), missing)


async def carried_out(sets: dict[str, TextSet], planned: Sequence[Sequence[Loop]]) -> list[Row]:
    """Run the loops whose results are missing, write the table, and return all results."""
    rows = Rows(FOLDER / "rows.json")
    try:
        await _carry_out(sets, planned, rows)
    finally:
        done = list(rows.of(loop for stage in planned for loop in stage))
        write_table(_by_texts(done))
    return done


def write_table(found: dict[str, dict[str, Accuracies]]) -> None:
    """Write the table for README.md to ``table.md``."""
    told = table(found, _DEFAULT)
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "table.md").write_text(told)
    print(told, flush=True)


def _by_texts(rows: Sequence[Row]) -> dict[str, dict[str, Accuracies]]:
    return {name: by_strategy(rows, name) for name in dict.fromkeys(row.loop.pool for row in rows)}


def result(rows: Sequence[Row], missing: dict[str, str]) -> dict[str, Any]:
    """Summarise all loops."""
    found = _by_texts(rows)
    over_random = [lead(each[_DEFAULT], each[_RANDOM], labels) for each in found.values() for labels in AT]
    ahead = {f"{name} at {labels}": _over_best(each, labels) for name, each in found.items() for labels in AT}
    least = min(ahead.values())
    return {
        "value": 100 * least,
        "unit": "percentage points ahead of the best library, at least",
        "target": "0 or more, and above random in every seed",
        "met": least >= 0 and all(each.won == each.seeds for each in over_random),
        "detail": {
            "leads": ahead,
            "seeds_above_random": [f"{each.won} of {each.seeds}" for each in over_random],
            "rows": [asdict(row) for row in rows],
            "missing": missing,
        },
    }


def _over_best(strategies: dict[str, Accuracies], labels: int) -> float:
    """The lead over the library's strategy that does best, with the library's own fit."""
    others = [each for name, each in strategies.items() if not name.startswith(OURS) and not name.endswith(OUR_FIT)]
    return min(lead(strategies[_DEFAULT], each, labels).over.mean for each in others)


async def _carry_out(sets: dict[str, TextSet], planned: Sequence[Sequence[Loop]], rows: Rows) -> None:
    """Run the first seed of a stage first: it decides which strategies are left out."""
    share_memory()
    use_one_thread()
    torch.set_num_threads(1)
    features = Features(sets)
    for stage in planned:
        for part in ([loop for loop in stage if loop.seed == stage[0].seed], stage):
            await work(rows.to_do(part), rows, lambda loop: _one(features, loop))


class Features:
    """Files with the features of each set and seed, made when first asked for and kept for the next time."""

    def __init__(self, sets: dict[str, TextSet]) -> None:
        self._sets = sets
        self._making: dict[Path, asyncio.Task[None]] = {}

    async def file_of(self, loop: Loop) -> Path:
        FOLDER.mkdir(parents=True, exist_ok=True)
        path = FOLDER / f"{loop.pool}-{loop.seed}.npz"
        if not path.exists():
            if path not in self._making:
                made = asyncio.to_thread(save_features, path, self._sets[loop.pool], loop.seed)
                self._making[path] = asyncio.create_task(made)
            await self._making[path]
        return path


async def _one(features: Features, loop: Loop) -> Row:
    path = await features.file_of(loop)
    if loop.library == OURS:
        return Row(loop, await asyncio.to_thread(lambda: accuracies(loaded(path), loop.strategy, loop.seed)))
    row, asked = await theirs(path, loop)
    if not asked:
        return row
    same_fit = await asyncio.to_thread(lambda: with_our_fit(loaded(path), asked, loop.seed))
    return Row(loop, row.accuracy, row.cpu_s, same_fit=same_fit)
