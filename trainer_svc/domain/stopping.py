"""Decide whether to stop requesting labels before the budget is spent. Pure functions.

Each rule is enabled separately, and the first one met ends the labelling. None uses the evaluation set.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from labelloop.domain.accuracy_estimate import majority
from labelloop.domain.limits import BY_CLASS_MAX, KAPPA
from labelloop.domain.proportion import rounded_down
from labelloop.domain.statistics import GUESSING
from labelloop.events.v1.events_pb2 import ModelTrained, StoppingSpec
from numpy.typing import NDArray

from trainer_svc.domain.guarantee import lower_bound

STOP_SET_SAMPLES = 1_000
_CONFIDENCE = 0.95  # that a target accuracy is met, over all looks together
_RISE = 1e-3  # of the expected accuracy; a smaller one is a plateau
_ROUNDS_OF_GAIN = 5


def looks_at_stop_set(spec: StoppingSpec) -> bool:
    """Return whether a rule needs the predictions for the stop set, a fixed random part of the pool."""
    return bool(spec.stable_rounds or spec.plateau_rounds or spec.label_price)


def reason_to_stop(spec: StoppingSpec, models: Sequence[ModelTrained], looks: int) -> str:
    """Return why labelling ends with the newest model; empty if it goes on.

    Args:
        spec: The rules.
        models: All models of the run, oldest first.
        looks: How often this is called in a run, at most.
    """
    return next(_reasons(spec, models, looks), "") if models else ""


def _reasons(spec: StoppingSpec, models: Sequence[ModelTrained], looks: int) -> Iterator[str]:
    newest = models[-1]
    if spec.target_accuracy:
        low = control_bound(newest, looks)
        if low >= spec.target_accuracy:
            yield (
                f"{newest.control.correct} of {newest.control.total} control samples are right{_guessed(newest)}: "
                f"at least {rounded_down(low, 1)} % of the pool, which meets the target of "
                f"{100 * spec.target_accuracy:g} %"
            )
    last = models[-spec.stable_rounds :] if spec.stable_rounds else []
    if 0 < spec.stable_rounds <= len(last) and all(model.agreement >= KAPPA for model in last):
        yield f"the last {spec.stable_rounds} models agree with the ones before them (kappa of {KAPPA} or more)"
    if spec.plateau_rounds and _plateau(spec.plateau_rounds, [model.expected_accuracy for model in models]):
        yield f"the expected accuracy has not risen for {spec.plateau_rounds} models"
    gain = expected_gain(models)
    if spec.label_price and gain is not None and gain * spec.point_worth < spec.label_price:
        yield (
            f"the next label is expected to gain {gain:.4f} percentage points, worth {gain * spec.point_worth:.4f}, "
            f"less than its price of {spec.label_price}"
        )


def _guessed(model: ModelTrained) -> str:
    control = model.control
    if not control.total:
        return ""
    guess = majority(control.most_frequent, control.total, len(control.class_total) or BY_CLASS_MAX + 1)
    return f" ({guess.headline} {GUESSING})" if guess else ""


def control_bound(model: ModelTrained, looks: int) -> float:
    """Compute the lower bound (Clopper and Pearson 1934) of the model's accuracy on the pool.

    The error allowed is split equally between ``looks`` tests (Bonferroni).
    """
    error = (1 - _CONFIDENCE) / max(looks, 1)
    return lower_bound(model.control.correct, model.control.total, 1 - error)


def _plateau(rounds: int, expected: Sequence[float]) -> bool:
    """Return whether none of the last ``rounds`` rose above all before (Vlachos 2008, on the expected accuracy)."""
    return len(expected) > rounds and max(expected[-rounds:]) < max(expected[:-rounds]) + _RISE


def expected_gain(models: Sequence[ModelTrained]) -> float | None:
    """Estimate the percentage points of accuracy that the next label gains.

    It is the slope of a least-squares line through the last five models' expected accuracies against the logarithm of
    their labels. None with fewer models, or if their labels are equally many or any has none.
    """
    last = models[-_ROUNDS_OF_GAIN:]
    labels = np.array([model.labels for model in last], np.float64)
    if len(last) < _ROUNDS_OF_GAIN or len({*labels.tolist()}) < 2 or not labels.all():
        return None
    logs, accuracy = np.log(labels), np.array([model.expected_accuracy for model in last])
    slope = float(np.cov(logs, accuracy, bias=True)[0, 1]) / float(logs.var())
    return max(0.0, 100 * slope / float(labels[-1]))


def kappa(one: NDArray[np.intp], other: NDArray[np.intp], class_count: int) -> float:
    """Compute Cohen's kappa (Cohen 1960) of two predictions ``[n]``: 1 if they are equal, 0 for agreement by chance."""
    agree = float(np.mean(one == other))
    shares = [np.bincount(each, minlength=class_count) / len(each) for each in (one, other)]
    by_chance = float(shares[0] @ shares[1])
    return 1.0 if by_chance >= 1 else (agree - by_chance) / (1 - by_chance)


def stopping_faults(spec: StoppingSpec) -> Iterator[tuple[str, str]]:
    """Yield the field and the message of each fault of a spec."""
    if not 0 <= spec.target_accuracy < 1:
        yield "target_accuracy", f"the target accuracy must lie between 0 and 1, not {spec.target_accuracy}"
    for field in ("label_price", "point_worth"):
        value = getattr(spec, field)
        if not 0 <= value < math.inf:
            yield field, f"{field} must be 0 or more, not {value}"
    if bool(spec.label_price) != bool(spec.point_worth):
        yield "label_price", "a price for a label needs the worth of a percentage point, and the other way round"
