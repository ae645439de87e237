"""Estimate how many labels a run's strategy has saved compared with labels drawn at random. Pure functions.

The control samples of a run are drawn at random. Models trained on them alone, judged like the run's own model, show
how accuracy grows with random labels, up to the number of control samples. How many random labels would reach the run's
own accuracy depends on how that learning curve continues. Real curves lie between one whose error falls as a power of
the labels (Hestness and others 2017), which is rather too flat, and one whose odds of an error do, which is rather too
steep. The estimate lies between the two; the interval reaches from one to the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from labelloop.trainer.v1.trainer_pb2 import MeasuredAccuracy, RoundResult
from numpy.typing import NDArray

from labelloop_cli.output.run_summary import judged

_DRAWS = 2_000
_ENDS = (2.5, 97.5)  # percentiles
_POINTS_MIN = 4
_SLOPES = (-4.0, -0.05)  # the range found in learning curves
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Shape:
    """A learning curve, ``scale(error) = intercept + slope * log(labels)``.

    Attributes:
        of_odds: Whether the scale is the logarithm of the error's odds, or of the error itself.
    """

    of_odds: bool
    intercept: float
    slope: float

    @classmethod
    def through(cls, labels: Array, errors: Array, *, of_odds: bool) -> Shape:
        """Fit the curve to points by least squares."""
        logs, values = np.log(labels), _scaled(errors, of_odds)
        slope = float(np.clip(np.polyfit(logs, values, 1)[0], *_SLOPES))
        return cls(of_odds, float(values.mean() - slope * logs.mean()), slope)

    def labels(self, error: float) -> float:
        """Return the number of labels at which the error has fallen to ``error``."""
        value = float(_scaled(np.array([error]), self.of_odds)[0])
        return float(np.exp(min((value - self.intercept) / self.slope, 50.0)))

    def errors(self, labels: Array) -> Array:
        values = np.exp(self.intercept + self.slope * np.log(labels))
        return np.asarray(values / (1 + values) if self.of_odds else np.minimum(values, 1.0))


@dataclass(frozen=True)
class Saved:
    """Estimate of the random labels that a run's accuracy would have taken.

    Attributes:
        accuracy: The run's own accuracy, reached with ``labels``.
        random_labels: Estimated number of random labels for that accuracy, at most the size of the pool.
        low: Lower end of the interval of ``random_labels``.
        high: Upper end; None if it would be the size of the pool or more.
        points: Labels and accuracy of each control model; the curves are fitted to them.
        steep: Curve whose odds of an error fall as a power of the labels.
        flat: Curve whose error does.
    """

    accuracy: float
    labels: int
    random_labels: float
    low: float
    high: float | None
    points: list[tuple[int, float]]
    steep: Shape
    flat: Shape

    @property
    def saved(self) -> float:
        return self.random_labels - self.labels

    @property
    def saved_low(self) -> float:
        return self.low - self.labels

    @property
    def saved_high(self) -> float | None:
        return None if self.high is None else self.high - self.labels


def labels_saved(rounds: Sequence[RoundResult], pool_size: int, seed: int = 0) -> Saved | None:
    """Estimate the labels saved, or return None if the control samples do not suffice.

    They suffice if their models were judged at four numbers of control samples or more, and the run's own model was
    judged too.

    The interval is that of a parametric bootstrap, 95 per cent for either curve: the errors of all models are redrawn
    from their binomial distributions, and those of the control models scattered as widely as they lie from the curve.
    """
    last = next((result for result in reversed(rounds) if judged(result)), None)
    own = judged(last) if last else None
    found = [result for result in rounds if result.HasField("control_evaluation") and result.control_labels > 1]
    if last is None or own is None or len({result.control_labels for result in found}) < _POINTS_MIN:
        return None
    steep, flat = (_Fit(found, own, of_odds=of_odds) for of_odds in (True, False))
    rng = np.random.default_rng(seed)
    low, high = np.percentile(steep.draws(rng), _ENDS[0]), np.percentile(flat.draws(rng), _ENDS[1])
    return Saved(
        accuracy=own.value,
        labels=last.labels,
        random_labels=min(float(np.sqrt(steep.needed * flat.needed)), pool_size),
        low=float(low),
        high=float(high) if high < pool_size else None,
        points=[(result.control_labels, result.control_evaluation.value) for result in found],
        steep=steep.shape,
        flat=flat.shape,
    )


class _Fit:
    """A curve fitted to the control models, and the number of random labels that it gives for the run's own model."""

    def __init__(self, found: Sequence[RoundResult], own: MeasuredAccuracy, *, of_odds: bool) -> None:
        self._control, self._own = [result.control_evaluation for result in found], own
        self._labels = np.array([result.control_labels for result in found], np.float64)
        errors = np.array([_error(each) for each in self._control])
        self.shape = Shape.through(self._labels, errors, of_odds=of_odds)
        self.needed = self.shape.labels(_error(own))
        apart = _scaled(errors, of_odds) - _scaled(self.shape.errors(self._labels), of_odds)
        self._scatter = float(np.std(apart, ddof=2))

    def draws(self, rng: np.random.Generator) -> Array:
        return np.array([self._drawn_again(rng) for _ in range(_DRAWS)])

    def _drawn_again(self, rng: np.random.Generator) -> float:
        """Refit the curve to redrawn errors and return the labels needed.

        Each round's control samples include those of the rounds before, so their models err alike: besides each point
        by itself, the whole curve is shifted.
        """
        errors, of_odds = np.array([_redrawn(rng, each) for each in self._control]), self.shape.of_odds
        moved = _scaled(errors, of_odds) + rng.normal(0, self._scatter) + rng.normal(0, self._scatter, len(errors))
        back = np.exp(moved)
        errors = back / (1 + back) if of_odds else np.minimum(back, 0.999)
        return Shape.through(self._labels, errors, of_odds=of_odds).labels(_redrawn(rng, self._own))


def _scaled(errors: Array, of_odds: bool) -> Array:
    inside = np.clip(errors, 1e-9, 1 - 1e-9)
    return np.asarray(np.log(inside / (1 - inside) if of_odds else inside))


def _error(accuracy: MeasuredAccuracy) -> float:
    """Return the error by the rule of succession (Laplace 1774), never 0, which has no logarithm."""
    return (accuracy.total - accuracy.correct + 1) / (accuracy.total + 2)


def _redrawn(rng: np.random.Generator, accuracy: MeasuredAccuracy) -> float:
    wrong = rng.binomial(accuracy.total, 1 - accuracy.value)
    return float((wrong + 1) / (accuracy.total + 2))
