"""Compare the default strategy with the others on texts, seed by seed. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from tests.bench.peers.strategy_rows import Row

AT = (100, 400)  # labels at which strategies are compared
OUR_FIT = ", our fit"
Accuracies = dict[int, dict[int, float]]  # by seed and labels


@dataclass(frozen=True)
class Interval:
    """A mean over seeds with its 95 per cent interval, by bootstrap over seeds; of one seed, just its value."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Lead:
    """How far the default strategy is ahead of another on the ``seeds`` that both have, and in how many of them."""

    over: Interval
    won: int
    seeds: int


def by_strategy(rows: Sequence[Row], texts: str) -> dict[str, Accuracies]:
    """Accuracies on one set of texts by library and strategy; those of our fit to a library's choice are beside."""
    found: dict[str, Accuracies] = {}
    for row in rows:
        if row.loop.pool == texts and not row.left_out:
            found.setdefault(row.loop.name, {})[row.loop.seed] = row.accuracy
            if row.same_fit:
                found.setdefault(row.loop.name + OUR_FIT, {})[row.loop.seed] = row.same_fit
    return found


def interval(values: Sequence[float]) -> Interval:
    seen = np.array(values)
    drawn = np.random.default_rng(0).choice(seen, (2_000, len(seen))).mean(axis=1)
    low, high = (float(each) for each in np.percentile(drawn, (2.5, 97.5)))
    return Interval(fmean(values), low, high)


def lead(ours: Accuracies, others: Accuracies, labels: int) -> Lead:
    """Compare at ``labels``; equal accuracies are not won. There must be a seed in common."""
    over = [ours[seed][labels] - others[seed][labels] for seed in sorted(ours.keys() & others.keys())]
    return Lead(interval(over), sum(each > 0 for each in over), len(over))


def table(found: dict[str, dict[str, Accuracies]], default: str) -> str:
    """Write a table in Markdown, ``default`` first: accuracy in per cent, and the lead of ``default`` in points."""
    heads = [f"{labels} labels | default's lead" for labels in AT]
    lines = [f"| texts | strategy | seeds | {' | '.join(heads)} |", f"|---|---|---|{'---|' * 2 * len(AT)}"]
    for texts, strategies in found.items():
        shown = texts
        for name, accuracies in sorted(strategies.items(), key=lambda each: (each[0] != default, each[0])):
            cells = [_cells(strategies, name, default, labels) for labels in AT]
            lines.append(f"| {shown} | {name} | {len(accuracies)} | {' | '.join(cells)} |")
            shown = ""
    return "\n".join(lines) + "\n"


def _cells(strategies: dict[str, Accuracies], name: str, default: str, labels: int) -> str:
    told = _told(interval([at[labels] for at in strategies[name].values()]))
    if name == default or not strategies.get(default, {}).keys() & strategies[name].keys():
        return f"{told} |"
    ahead = lead(strategies[default], strategies[name], labels)
    return f"{told} | {_told(ahead.over, sign='+')}, {ahead.won} of {ahead.seeds}"


def _told(seen: Interval, sign: str = "") -> str:
    mean, low, high = (f"{100 * each:{sign}.1f}" for each in (seen.mean, seen.low, seen.high))
    return mean if seen.low == seen.high else f"{mean} ({low} to {high})"
