"""Convert accuracies to what the log records of them, and that to what clients receive. Pure functions."""

from __future__ import annotations

from labelloop.domain.limits import BY_CLASS_MAX
from labelloop.domain.statistics import wilson_interval
from labelloop.events.v1.events_pb2 import Accuracy
from labelloop.trainer.v1.trainer_pb2 import MeasuredAccuracy

from trainer_svc.model.tally import Tally


def recorded(found: Tally) -> Accuracy:
    """Return what the log records: counts by class for up to ``BY_CLASS_MAX`` classes, else their summary alone."""
    accuracy = Accuracy(
        correct=found.count.correct,
        total=found.count.total,
        most_frequent=found.most_frequent,
        balanced=found.balanced,
    )
    if found.count.total and len(found.total) <= BY_CLASS_MAX:
        accuracy.class_correct.extend(found.correct.tolist())
        accuracy.class_total.extend(found.total.tolist())
    return accuracy


def measured(accuracy: Accuracy, *, by_class: bool) -> MeasuredAccuracy | None:
    """Return a recorded accuracy with its interval, and its counts ``by_class`` or not; None if none was measured."""
    if not accuracy.total:
        return None
    low, high = wilson_interval(accuracy.correct, accuracy.total)
    found = MeasuredAccuracy(
        correct=accuracy.correct,
        total=accuracy.total,
        value=accuracy.correct / accuracy.total,
        low=low,
        high=high,
        baseline=accuracy.most_frequent / accuracy.total,
        balanced=accuracy.balanced,
    )
    if by_class:
        found.class_correct.extend(accuracy.class_correct)
        found.class_total.extend(accuracy.class_total)
    return found
