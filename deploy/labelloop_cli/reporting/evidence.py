"""Estimate how many labels a run's strategy has saved compared with labels drawn at random. Pure functions.

The control samples of a run are drawn at random. Models trained on them alone, judged like the run's own model, show
how accuracy grows with random labels, up to the number of control samples. How many random labels would reach the run's
own accuracy depends on how that learning curve continues. Real curves lie between one whose error falls as a power of
the labels (Hestness and others 2017), which is rather too flat, and one whose odds of an error do, which is rather too
steep. The estimate lies between the two; the interval reaches from one to the other. Both end at the pool, which has no
more random labels to give.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from labelloop.domain.proportion import RELIABLE_MIN, Proportion
from labelloop.trainer.v1.trainer_pb2 import GetRunResponse, MeasuredAccuracy, RoundResult
from numpy.typing import NDArray

from labelloop_cli.output.run_summary import estimate_of

_DRAWS = 2_000
_ENDS = (2.5, 97.5)  # percentiles
_POINTS_MIN = 4
_SLOPES = (-4.0, -0.05)  # the range found in learning curves
Array = NDArray[np.float64]
Verdict = Literal["fewer", "more", "unclear"]


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
        reached: The run's own accuracy, reached with ``labels``.
        pool: Number of samples that can be labelled: neither figure below exceeds it.
        random_labels: Estimated number of random labels for that accuracy.
        low: Lower end of the interval of ``random_labels``.
        high: Upper end.
        points: Labels of each control model and the share that it has right; the curves are fitted to them.
        steep: Curve whose odds of an error fall as a power of the labels.
        flat: Curve whose error does.
    """

    reached: Proportion
    labels: int
    pool: int
    random_labels: float
    low: float
    high: float
    points: list[tuple[int, Proportion]]
    steep: Shape
    flat: Shape

    @property
    def unit(self) -> int:
        """What figures are rounded to: the second digit of half the interval."""
        return int(10 ** max(0, math.floor(math.log10(max(1.0, (self.high - self.low) / 2))) - 1))

    @property
    def saved(self) -> float:
        return self.random_labels - self.labels

    @property
    def saved_low(self) -> float:
        return self.low - self.labels

    @property
    def saved_high(self) -> float:
        return self.high - self.labels

    def rounded(self, amount: float) -> int:
        """Round a number of labels; the size of the pool and what is left of it stay as they are."""
        exact = amount >= self.pool or abs(amount - (self.pool - self.labels)) < 1
        return round(amount) if exact else (round(amount / self.unit) * self.unit or round(amount))

    @property
    def verdict(self) -> Verdict:
        """Whether the run took fewer labels than random choice would have, more, or the interval allows both."""
        if self.saved_low > 0:
            return "fewer"
        return "more" if self.saved_high < 0 else "unclear"


@dataclass(frozen=True)
class NotKnown:
    """Why nothing can be said about labels saved."""

    why: str


def labels_saved(whole: GetRunResponse, seed: int = 0) -> Saved | NotKnown:
    """Estimate the labels saved from at least 30 control samples, whose models were judged at four sizes or more.

    The interval is that of a bootstrap, 95 per cent for either curve: the errors of all models are drawn from their
    posterior distributions (Jeffreys 1946), and those of the control models scattered as widely as they lie from the
    curve.
    """
    run, last = whole.run, whole.rounds[-1]
    pool = run.pool.sample_count - run.pool.duplicate_count
    estimate = estimate_of(last, run.spec.protocol)
    found = [result for result in whole.rounds if result.HasField("control_evaluation") and result.control_labels > 1]
    if (why := _missing(whole, found)) or estimate is None:
        return NotKnown(why)
    own = last.evaluation if estimate.measured_on == "evaluation" else last.control
    steep, flat = (_Fit(found, own, of_odds=of_odds) for of_odds in (True, False))
    rng = np.random.default_rng(seed)
    ends = np.percentile([steep.draws(rng), flat.draws(rng)], _ENDS, axis=1)
    low, high = (float(np.clip(each, 1, pool)) for each in (ends[0].min(), ends[1].max()))
    return Saved(
        reached=estimate.share,
        labels=last.labels,
        pool=pool,
        random_labels=float(np.clip(np.sqrt(steep.needed * flat.needed), low, high)),
        low=low,
        high=high,
        points=[(result.control_labels, _share(result.control_evaluation)) for result in found],
        steep=steep.shape,
        flat=flat.shape,
    )


def _missing(whole: GetRunResponse, found: Sequence[RoundResult]) -> str:
    """Return what an estimate lacks; empty if it lacks nothing."""
    run, last = whole.run, whole.rounds[-1]
    if last.control_labels < RELIABLE_MIN:
        return f"Not enough control samples to tell: {last.control_labels}, and it takes {RELIABLE_MIN}."
    estimate = estimate_of(last, run.spec.protocol)
    if estimate is None or estimate.measured_on == "stopping set" or estimate.share.only_range:
        return "Not known: the newest model's accuracy was not measured on enough samples."
    if len({result.control_labels for result in found}) < _POINTS_MIN:
        return f"Not enough models to tell: control samples must have been judged after {_POINTS_MIN} rounds."
    if last.labels >= run.pool.sample_count - run.pool.duplicate_count:
        return "The whole pool is labelled."
    return ""


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


def _share(measured: MeasuredAccuracy) -> Proportion:
    return Proportion(measured.correct, measured.total)


def _redrawn(rng: np.random.Generator, accuracy: MeasuredAccuracy) -> float:
    """Draw an error that the counts allow: also without any error seen, there is room for one."""
    return float(rng.beta(accuracy.total - accuracy.correct + 0.5, accuracy.correct + 0.5))
