"""Results of the study: rows as written, and their statistics. Pure functions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any, TypedDict

import numpy as np

from tests.study.plan import AT, DEFAULT, FEATURES, POOLS, RANDOM, Cell


class Row(TypedDict):
    """The accuracy of one run at ``labels``, on all 10,000 test images."""

    pool: str
    size: int
    features: str
    strategy: str
    seed: int
    labels: int
    accuracy: float


def rows_of(cell: Cell, accuracies: Sequence[tuple[int, float]]) -> list[Row]:
    """``accuracies``: labels and accuracy of each round."""
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


Curve = list[tuple[int, float]]  # labels and accuracy
Curves = dict[str, dict[int, Curve]]  # by strategy and seed


def groups(rows: Sequence[Row]) -> list[tuple[str, str, Curves]]:
    """Pool, features and their curves, the default features first and pixels last."""
    found: dict[tuple[str, str], Curves] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for row in sorted(rows, key=lambda row: row["labels"]):
        found[row["pool"], row["features"]][row["strategy"]][row["seed"]].append((row["labels"], row["accuracy"]))
    ordered = sorted(found, key=lambda group: (POOLS[group[0]], -FEATURES.index(group[1])))
    return [(pool, features, found[pool, features]) for pool, features in ordered]


def table(curves: Curves) -> list[dict[str, Any]]:
    """One line per strategy: seeds, mean and standard deviation at each of AT; highest final mean first."""
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
    """Labels at which a curve's running maximum, interpolated, first reaches ``accuracy``; None if it never does."""
    labels = np.array([x for x, _ in curve], np.float64)
    highest = np.maximum.accumulate([y for _, y in curve])
    if highest[-1] < accuracy:
        return None
    at = int(np.argmax(highest >= accuracy))
    if not at:
        return float(labels[0])
    share = (accuracy - highest[at - 1]) / (highest[at] - highest[at - 1])
    return float(labels[at - 1] + share * (labels[at] - labels[at - 1]))


@dataclass(frozen=True)
class Saving:
    """How many fewer labels the default strategy needs for the accuracy of ``of`` random labels: the mean over
    ``seeds``, with a 95 per cent interval by bootstrap over seeds. In ``short`` of them it never reaches that
    accuracy, which counts as 0 saved."""

    of: int
    seeds: int
    saved: float
    low: float
    high: float
    short: int


def savings(curves: Curves) -> list[Saving]:
    """Savings at each number of labels in AT but the first; none if there are fewer than two seeds."""
    pairs = _pairs(curves)
    if len(pairs) < 2:
        return []
    return [_saving(of, pairs) for of in AT[1:] if all(of in dict(by_chance) for _, by_chance in pairs)]


def _saving(of: int, pairs: Sequence[tuple[Curve, Curve]]) -> Saving:
    needed = [labels_needed(chosen, dict(by_chance)[of]) for chosen, by_chance in pairs]
    saved = np.array([0.0 if each is None else of - each for each in needed])
    drawn = np.random.default_rng(0).choice(saved, (2_000, len(saved))).mean(axis=1)
    low, high = (float(each) for each in np.percentile(drawn, (2.5, 97.5)))
    return Saving(of, len(pairs), float(saved.mean()), low, high, needed.count(None))


@dataclass(frozen=True)
class Beaten:
    """In ``count`` of ``seeds``, ``labels`` chosen by the default strategy beat ``of`` drawn at random."""

    labels: int
    of: int
    count: int
    seeds: int


def beaten(curves: Curves) -> list[Beaten]:
    """Compare fewer chosen labels with the most random ones, fewest first."""
    pairs, of = _pairs(curves), max(AT)
    whole = [(dict(chosen), dict(by_chance)[of]) for chosen, by_chance in pairs if of in dict(by_chance)]
    return [
        Beaten(labels, of, sum(chosen[labels] > end for chosen, end in whole), len(whole))
        for labels in AT[:-1]
        if whole and all(labels in chosen for chosen, _ in whole)
    ]


def sentences(saved: Sequence[Saving], won: Sequence[Beaten]) -> list[str]:
    """State both results in sentences."""
    told = []
    for each in saved:
        never = f"; never in {each.short} of them" if each.short else ""
        told.append(
            f"What {each.of} random labels reach, {DEFAULT} reaches with {each.saved:.0f} fewer "
            f"(95 % interval {each.low:.0f} to {each.high:.0f}, {each.seeds} seeds{never})."
        )
    if won:
        counts = ", ".join(f"{win.labels} in {win.count}" for win in won)
        told.append(f"Chosen labels beat {won[0].of} drawn at random: {counts} of {won[0].seeds} seeds.")
    return told


def _pairs(curves: Curves) -> list[tuple[Curve, Curve]]:
    """The default strategy's curve and the random one, of each seed that has both."""
    seeds = sorted(curves.get(DEFAULT, {}).keys() & curves.get(RANDOM, {}).keys())
    return [(curves[DEFAULT][seed], curves[RANDOM][seed]) for seed in seeds]
