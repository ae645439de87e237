"""What a run's choice of samples has saved, beside labels drawn at random. Pure.

The control samples of a run are drawn at random. A model of them alone, judged as the run's own model is, shows how
accuracy grows with random labels: its error falls as a power of their number (Hestness and others 2017), which tells
how many random labels the run's own accuracy would have taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from labelloop.trainer.v1.trainer_pb2 import MeasuredAccuracy, RoundResult
from numpy.typing import NDArray

_DRAWS = 2_000
_ENDS = (2.5, 97.5)  # of a hundred
_POINTS_MIN = 4
_STEEPEST, _FLATTEST = -2.0, -0.05  # powers that learning curves have
_MOST = 1_000  # times the labels: beyond it nothing can be told


@dataclass(frozen=True)
class Saved:
    """At ``accuracy``, reached with ``labels``: how many random labels that would have taken, and between which ends
    that lies with 95 per cent; ``high`` is None where no end can be told. ``points`` are what the control's curve rests
    on, in labels and accuracy."""

    accuracy: float
    labels: int
    random_labels: float
    low: float
    high: float | None
    points: list[tuple[int, float]]
    power: float

    @property
    def saved(self) -> float:
        return self.random_labels - self.labels

    @property
    def saved_low(self) -> float:
        return self.low - self.labels

    @property
    def saved_high(self) -> float | None:
        return None if self.high is None else self.high - self.labels

    def random_accuracy(self, labels: float) -> float:
        """That of so many random labels, by the curve."""
        return float(1 - (1 - self.accuracy) * (labels / self.random_labels) ** self.power)


def labels_saved(rounds: Sequence[RoundResult], seed: int = 0) -> Saved | None:
    """None where the control says too little: fewer than four of its models, or no curve that falls.

    The interval is that of a parametric bootstrap: errors of all models drawn anew from their binomial distributions,
    and about the curve as far as the control's models lie from it. Control samples of a round are among those of the
    next, so that it is rather too narrow than too wide.
    """
    found = [result for result in rounds if result.HasField("control_evaluation") and result.control_labels > 1]
    own = next((judged(result) for result in reversed(rounds) if judged(result)), None)
    if own is None or len({result.control_labels for result in found}) < _POINTS_MIN:
        return None
    last = next(result for result in reversed(rounds) if judged(result))
    if found[-1].control_labels >= last.labels:
        return None  # all are random
    logs = np.log([result.control_labels for result in found])
    errors = np.array([_error(result.control_evaluation) for result in found])
    intercept, power = _line(logs, np.log(errors))
    scatter = float(np.std(np.log(errors) - intercept - power * logs, ddof=2))
    needed = _needed(_error(own), intercept, power)
    rng = np.random.default_rng(seed)
    drawn = [_drawn_again(rng, found, logs, intercept, power, scatter, own) for _ in range(_DRAWS)]
    low, high = np.percentile(drawn, _ENDS)
    most = _MOST * last.labels
    if not needed < most:
        return None
    return Saved(
        accuracy=own.value,
        labels=last.labels,
        random_labels=needed,
        low=float(low),
        high=float(high) if high < most else None,
        points=[(result.control_labels, result.control_evaluation.value) for result in found],
        power=power,
    )


def judged(result: RoundResult) -> MeasuredAccuracy | None:
    """What the run's own model is judged by: the evaluation set, or the control samples where there is none."""
    if result.HasField("evaluation"):
        return result.evaluation
    return result.control if result.HasField("control") else None


def _drawn_again(
    rng: np.random.Generator,
    found: Sequence[RoundResult],
    logs: NDArray[np.float64],
    intercept: float,
    power: float,
    scatter: float,
    own: MeasuredAccuracy,
) -> float:
    errors = np.array([_redrawn(rng, result.control_evaluation) for result in found])
    moved = np.log(errors) + rng.normal(0, scatter) + rng.normal(0, scatter, len(errors))
    return _needed(_redrawn(rng, own), *_line(logs, moved))


def _line(logs: NDArray[np.float64], values: NDArray[np.float64]) -> tuple[float, float]:
    """Intercept and slope of the line of least squares, the slope within what learning curves have."""
    slope = float(np.polyfit(logs, values, 1)[0])
    power = min(max(slope, _STEEPEST), _FLATTEST)
    return float(values.mean() - power * logs.mean()), power


def _needed(error: float, intercept: float, power: float) -> float:
    return float(np.exp(min((np.log(error) - intercept) / power, 50.0)))


def _error(accuracy: MeasuredAccuracy) -> float:
    """Never 0, of which there is no logarithm (the rule of succession: Laplace 1774)."""
    return (accuracy.total - accuracy.correct + 1) / (accuracy.total + 2)


def _redrawn(rng: np.random.Generator, accuracy: MeasuredAccuracy) -> float:
    wrong = rng.binomial(accuracy.total, 1 - accuracy.value)
    return float((wrong + 1) / (accuracy.total + 2))
