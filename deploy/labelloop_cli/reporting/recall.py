"""Compute how much of each class a run's newest model finds, for its report. Pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from labelloop.domain.statistics import tells_little, wilson_interval
from labelloop.trainer.v1.trainer_pb2 import LabelRecord, MeasuredAccuracy

_ROWS = 100


@dataclass(frozen=True)
class RecallRow:
    """The samples of one class, how many of them are predicted correctly, and that share with its 95 % interval."""

    name: str
    correct: int
    total: int
    recall: float
    low: float
    high: float


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
    rows = sorted((_row(*each) for each in found if each[2]), key=lambda row: (row.recall, -row.total))
    absent = [name for name, _, total in found if not total]
    most_frequent = max(found, key=lambda each: each[2])[0]
    return Recall(rows[:_ROWS], max(0, len(rows) - _ROWS), absent[:_ROWS], len(absent), most_frequent)


def _row(name: str, correct: int, total: int) -> RecallRow:
    return RecallRow(name, correct, total, correct / total, *wilson_interval(correct, total))


def guessing(measured: MeasuredAccuracy, classes: Sequence[str]) -> float | None:
    """Return the majority baseline if the accuracy tells little without it; else None."""
    return measured.baseline if tells_little(measured.baseline, len(classes)) else None


def auto_majority(labels: Sequence[LabelRecord], classes: Sequence[str]) -> tuple[str, float] | None:
    """Return the most frequent class of the auto-labels and its share of them, in [0, 1], if they are imbalanced."""
    counts = Counter(label.label for label in labels if label.auto_labelled)
    if not counts:
        return None
    (most, count), total = counts.most_common(1)[0], counts.total()
    return (classes[most], count / total) if tells_little(count / total, len(classes)) else None
