"""What the study found: rows as they are written, and what they say. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any, TypedDict

import numpy as np

from tests.study.plan import AT, DEFAULT, RANDOM, Cell


class Row(TypedDict):
    """One accuracy, on all 10,000 test images, of one run at so many labels."""

    pool: str
    size: int
    features: str
    strategy: str
    seed: int
    labels: int
    accuracy: float


def rows_of(cell: Cell, accuracies: Sequence[tuple[int, float]]) -> list[Row]:
    """``accuracies`` are labels and accuracy of each round."""
    return [
        Row(
            pool=cell.pool,
            size=cell.size,
            features=cell.features,
            strategy=cell.strategy,
            seed=cell.seed,
            labels=labels,
            accuracy=accuracy,
        )
        for labels, accuracy in accuracies
    ]


Curves = dict[str, dict[int, list[tuple[int, float]]]]  # by strategy and seed, labels and accuracy


def by_group(rows: Sequence[Row]) -> dict[tuple[str, str], Curves]:
    """Pool and features, and the curves there."""
    groups: dict[tuple[str, str], Curves] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for row in sorted(rows, key=lambda row: row["labels"]):
        groups[row["pool"], row["features"]][row["strategy"]][row["seed"]].append((row["labels"], row["accuracy"]))
    return groups


def table(curves: Curves) -> list[dict[str, Any]]:
    """A line a strategy: seeds, and at each number of labels mean and standard deviation, best at the end first."""
    lines = []
    for strategy, seeds in curves.items():
        at = {labels: [dict(curve)[labels] for curve in seeds.values() if labels in dict(curve)] for labels in AT}
        cells = {
            labels: (fmean(values), stdev(values) if len(values) > 1 else 0.0)
            for labels, values in at.items()
            if values
        }
        lines.append({"strategy": strategy, "seeds": len(seeds), "at": cells})
    return sorted(lines, key=lambda line: -line["at"].get(max(AT), (0.0, 0.0))[0])


def labels_needed(curve: Sequence[tuple[int, float]], accuracy: float) -> float | None:
    """Where a curve, its highest so far, first reaches ``accuracy``, straight between its points; None where never."""
    labels = np.array([x for x, _ in curve], np.float64)
    highest = np.maximum.accumulate([y for _, y in curve])
    if highest[-1] < accuracy:
        return None
    at = int(np.argmax(highest >= accuracy))
    if not at:
        return float(labels[0])
    share = (accuracy - highest[at - 1]) / (highest[at] - highest[at - 1])
    return float(labels[at - 1] + share * (labels[at] - labels[at - 1]))


def saving(curves: Curves) -> dict[str, Any] | None:
    """How many labels fewer the default strategy needs, seed by seed, for what random labels reach at the end of the
    same seed: the mean with its 95 per cent interval by bootstrap over seeds. None without both."""
    seeds = sorted(curves.get(DEFAULT, {}).keys() & curves.get(RANDOM, {}).keys())
    if len(seeds) < 2:
        return None
    ends = {seed: curves[RANDOM][seed][-1] for seed in seeds}
    needed = {seed: labels_needed(curves[DEFAULT][seed], ends[seed][1]) for seed in seeds}
    saved = np.array([ends[seed][0] - each for seed in seeds if (each := needed[seed]) is not None])
    if len(saved) < len(seeds):
        return None
    drawn = np.random.default_rng(0).choice(saved, (2_000, len(saved))).mean(axis=1)
    low, high = np.percentile(drawn, (2.5, 97.5))
    halves = [_at(curves[DEFAULT][seed], max(AT) // 2) > ends[seed][1] for seed in seeds]
    return {
        "of": ends[seeds[0]][0],
        "seeds": len(seeds),
        "saved": float(saved.mean()),
        "low": float(low),
        "high": float(high),
        "half_beats_all": sum(halves),
    }


def _at(curve: Sequence[tuple[int, float]], labels: int) -> float:
    return dict(curve)[labels]
