"""Results of other libraries' strategies and of ours, in rows that survive an interruption."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from tests.study.plan import AT


@dataclass(frozen=True)
class Loop:
    """One run of a strategy. ``library`` includes its version."""

    pool: str
    features: str
    library: str
    strategy: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.library} {self.strategy}"


@dataclass(frozen=True)
class Row:
    """``accuracy`` by label count, on all test samples; ``cpu_s`` is the time spent choosing, None if not measured;
    ``left_out`` says why there is no accuracy. ``same_fit`` is the accuracy of our fit to the samples that a library
    chose, empty if not measured."""

    loop: Loop
    accuracy: dict[int, float]
    cpu_s: float | None = None
    left_out: str = ""
    same_fit: dict[int, float] = field(default_factory=dict)


class Rows:
    """Rows in a file, which is rewritten with each row added."""

    def __init__(self, path: Path) -> None:
        self._path = path
        told = json.loads(path.read_text()) if path.exists() else []
        self._rows = [_read(each) for each in told]

    def add(self, row: Row) -> None:
        self._rows.append(row)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        draft = self._path.with_suffix(".draft")
        draft.write_text(json.dumps([asdict(each) for each in self._rows], indent=1) + "\n")
        draft.replace(self._path)

    def to_do(self, planned: Iterable[Loop]) -> list[Loop]:
        """Loops without a row, whose strategy was not left out there with another seed."""
        done = {row.loop for row in self._rows}
        return [loop for loop in planned if loop not in done and not self.left_out(loop)]

    def left_out(self, loop: Loop) -> str:
        """Why its strategy is not available on this pool; empty if it is."""
        return next((row.left_out for row in self._rows if row.left_out and _arm(row.loop) == _arm(loop)), "")

    def of(self, planned: Iterable[Loop]) -> list[Row]:
        wanted = set(planned)
        return [row for row in self._rows if row.loop in wanted]


def _read(told: dict[str, Any]) -> Row:
    accuracy, same_fit = (_by_labels(told.get(name, {})) for name in ("accuracy", "same_fit"))
    return Row(Loop(**told["loop"]), accuracy, told["cpu_s"], told["left_out"], same_fit)


def _by_labels(told: dict[str, float]) -> dict[int, float]:
    return {int(labels): value for labels, value in told.items()}


def _arm(loop: Loop) -> tuple[str, str, str, str]:
    return loop.pool, loop.features, loop.library, loop.strategy


@dataclass(frozen=True)
class Arm:
    """Mean and standard deviation over seeds by label count; ``cpu_s`` is the mean time spent choosing."""

    seeds: int
    mean: dict[int, float]
    spread: dict[int, float]
    cpu_s: float | None


def arms(rows: Sequence[Row], pool: str, features: str) -> dict[str, Arm]:
    """Results by library and strategy."""
    by_name: dict[str, list[Row]] = {}
    for row in rows:
        if (row.loop.pool, row.loop.features) == (pool, features) and not row.left_out:
            by_name.setdefault(row.loop.name, []).append(row)
    return {name: _arm_of(group) for name, group in by_name.items()}


def _arm_of(rows: Sequence[Row]) -> Arm:
    at = {labels: [row.accuracy[labels] for row in rows] for labels in AT}
    took = [row.cpu_s for row in rows if row.cpu_s is not None]
    return Arm(
        seeds=len(rows),
        mean={labels: fmean(values) for labels, values in at.items()},
        spread={labels: stdev(values) if len(values) > 1 else 0.0 for labels, values in at.items()},
        cpu_s=fmean(took) if took else None,
    )


def leads(found: dict[str, Arm], ours: str) -> dict[int, float]:
    """By label count, how far the mean of ``ours`` is above the best of the others; empty without either."""
    others = [arm for name, arm in found.items() if name != ours]
    if ours not in found or not others:
        return {}
    return {labels: found[ours].mean[labels] - max(arm.mean[labels] for arm in others) for labels in AT}
