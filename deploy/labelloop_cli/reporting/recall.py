"""Compute how much of each class a run's newest model finds, for its report. Pure functions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from labelloop.domain.proportion import RELIABLE_MIN, Proportion, digits_for, rounded_down, rounded_up
from labelloop.domain.statistics import tells_little
from labelloop.trainer.v1.trainer_pb2 import LabelRecord, MeasuredAccuracy

_ROWS = 100


@dataclass(frozen=True)
class RecallRow:
    """One class, and the share of its samples that are predicted correctly."""

    name: str
    share: Proportion


@dataclass(frozen=True)
class Recall:
    """Recall by class.

    Attributes:
        rows: Classes that occur, the one with the lowest recall first; at most 100.
        left_out: Number of classes that occur and are not in ``rows``.
        absent: Names of classes that do not occur in what the accuracy was measured on, at most 100.
        absent_count: Number of these classes.
        most_frequent: Name of the most frequent class.
    """

    rows: list[RecallRow]
    left_out: int
    absent: list[str]
    absent_count: int
    most_frequent: str

    @property
    def occurring(self) -> int:
        return len(self.rows) + self.left_out


def recall(measured: MeasuredAccuracy, classes: Sequence[str]) -> Recall | None:
    """Return the recall of each of ``classes``; None if it was not recorded."""
    found = list(zip(classes, measured.class_correct, measured.class_total, strict=False))
    if not found or len(measured.class_total) != len(classes):
        return None
    rows = sorted(
        (RecallRow(name, Proportion(correct, total)) for name, correct, total in found if total),
        key=lambda row: (row.share.correct / row.share.total, -row.share.total),
    )
    absent = [name for name, _, total in found if not total]
    most_frequent = max(found, key=lambda each: each[2])[0]
    return Recall(rows[:_ROWS], max(0, len(rows) - _ROWS), absent[:_ROWS], len(absent), most_frequent)


@dataclass(frozen=True)
class Balanced:
    """The balanced accuracy in per cent, and its 95 per cent interval; empty if counts by class were not recorded."""

    headline: str
    interval: str


def balanced(measured: MeasuredAccuracy) -> Balanced:
    """Say the balanced accuracy; its interval combines those of the classes (MOVER: Zou and Donner 2008)."""
    counts = zip(measured.class_correct, measured.class_total, strict=True)
    shares = [Proportion(correct, total) for correct, total in counts if total]
    if not shares:
        return Balanced(f"{100 * measured.balanced:.0f} %", "")
    middle = sum(share.correct / share.total for share in shares) / len(shares)
    below = math.hypot(*(share.correct / share.total - share.low for share in shares)) / len(shares)
    above = math.hypot(*(share.high - share.correct / share.total for share in shares)) / len(shares)
    low, high = max(0.0, middle - below), min(1.0, middle + above)
    digits = digits_for(low, high)
    interval = f"{rounded_down(low, digits)} to {rounded_up(high, digits)} %"
    if measured.total < RELIABLE_MIN:
        return Balanced(f"between {rounded_down(low, 0)} % and {rounded_up(high, 0)} %", interval)
    return Balanced(f"{100 * middle:.{digits}f} %", interval)


def guessing(measured: MeasuredAccuracy, classes: Sequence[str]) -> float | None:
    """Return the majority baseline if the accuracy tells little without it and enough samples show it; else None."""
    enough = measured.total >= RELIABLE_MIN
    return measured.baseline if enough and tells_little(measured.baseline, len(classes)) else None


def auto_majority(labels: Sequence[LabelRecord], classes: Sequence[str]) -> tuple[str, float] | None:
    """Return the most frequent class of the auto-labels and its share of them, in [0, 1], if they are imbalanced."""
    counts = Counter(label.label for label in labels if label.auto_labelled)
    if not counts:
        return None
    (most, count), total = counts.most_common(1)[0], counts.total()
    return (classes[most], count / total) if tells_little(count / total, len(classes)) else None
