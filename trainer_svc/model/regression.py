"""Fit softmax regression for the honest protocol. No I/O.

The penalty is chosen by cross-validation and the probabilities are calibrated, all on the labelled samples alone.
Computed in float64, so that the same labels give the same float32 weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainer_svc.model.adam_softmax import Count
from trainer_svc.model.calibration import best_temperature, calibration_error
from trainer_svc.model.penalized_softmax import LogLoss, Rotated, minimise, rotate

_FOLDS = 5
_FOLDS_OF_MANY = 3
_MANY = 200  # labels
_STRENGTHS = [10 ** (-power / 2) for power in range(6, 13)]  # times the total variance of the features, strongest first
_MIDDLE = _STRENGTHS[3]
_GRADIENT_MIN = 3e-4  # closer to the minimum, held-out samples are predicted no better
_WORSE_MAX = 2  # the search ends after so many weaker penalties in a row without improvement
EVENLY, AS_THEY_VARY = (0.0,), (0.0, 0.35)
"""Powers to choose from: learned features vary alike, but in raw samples, much of what varies little is noise
(ridge regression that shrinks these more: Hastie, Tibshirani and Friedman 2009, section 3.5)."""


@dataclass(frozen=True)
class Regression:
    """A calibrated model, and how well models like it predict samples that were held out.

    Attributes:
        weights: Weights divided by ``temperature``, ``[classes, features + 1]`` float32, the bias last.
        l2: Strength of the penalty on the mean log loss.
        held_out: Number of held-out samples, and of those predicted correctly.
        held_out_probabilities: Probabilities ``[n, classes]`` by models fitted without the sample, each fold at the
            best temperature for the others; NaN for samples that were not held out.
        calibration_error: Calibration error of these probabilities.
    """

    weights: Tensor
    l2: float
    temperature: float
    steps: int
    held_out: Count
    held_out_probabilities: NDArray[np.float64]
    calibration_error: float


def fit_regression(
    features: Tensor,
    labels: Tensor,
    class_count: int,
    *,
    seed: int,
    trusted: Tensor | None = None,
    powers: Sequence[float] = EVENLY,
    optional: int = 0,
    balanced: bool = False,
) -> Regression:
    """Fit a model with the columns, power and penalty that do best on held-out samples.

    Args:
        features: ``[n, features + 1]``, the last column 1; at least one sample.
        labels: ``[n]``.
        class_count: Number of classes.
        seed: Seed of the assignment to folds.
        trusted: Which labels may be held out, ``[n]``; None for all. Labels by a model would agree with models.
        powers: Powers of :meth:`Rotated.favouring` to choose from.
        optional: How many of the last features may be left out, all together; fewer than there are. They are unless the
            model does better with them.
        balanced: Each class that has labels weighs the same in every log loss: that of the fit and of the held-out
            samples by which penalty and temperature are chosen. Probabilities are then those of a population in which
            these classes are equally frequent; counts and calibration error are of the labelled samples as they are.
    """
    width = features.shape[1] - 1
    widths = (width - optional, width) if optional else (width,)
    folds = _folds(labels, torch.ones(len(labels), dtype=torch.bool) if trusted is None else trusted, seed)
    plain = [rotate(features[:, :each]) for each in widths]
    tried = [(each.favouring(power) if power else each) for each in plain for power in powers]
    found = [(_cross_validated(rotated, labels, class_count, folds, balanced), rotated) for rotated in tried]
    (_, strength, held_logits), rotated = min(found, key=lambda each: each[0].loss)
    nothing = _nothing(rotated, class_count)
    counting = _counting(labels, balanced)
    weights, steps = minimise(
        rotated.samples, labels, rotated.variances, class_count, strength, nothing, _GRADIENT_MIN, counting
    )
    judged = folds >= 0
    temperature = best_temperature(held_logits[judged], labels[judged], _counting(labels[judged], balanced))
    probabilities = _calibrated(held_logits, labels, folds, balanced)
    seen, truth = probabilities[judged.numpy()], labels[judged].numpy()
    right = seen.argmax(axis=1) == truth
    return Regression(
        weights=_widened(rotated.unrotated(weights) / temperature, width).float(),
        l2=strength,
        temperature=temperature,
        steps=steps,
        held_out=Count(int(right.sum()), len(right)),
        held_out_probabilities=probabilities,
        calibration_error=calibration_error(seen, truth),
    )


def _widened(weights: Tensor, width: int) -> Tensor:
    """Return weights ``[classes, width + 1]``, the bias last, with zeros for features that were left out."""
    missing = weights.new_zeros(len(weights), width + 1 - weights.shape[1])
    return torch.cat([weights[:, :-1], missing, weights[:, -1:]], 1)


def _nothing(rotated: Rotated, class_count: int) -> Tensor:
    return torch.zeros(class_count, rotated.samples.shape[1] + 1, dtype=torch.float64)


def _counting(labels: Tensor, balanced: bool) -> Tensor | None:
    """Return how much each sample counts, ``[n]`` and 1 on average, so that the classes in ``labels`` weigh the same.

    It is ``n / (K n_k)`` for a class with ``n_k`` of the ``n`` labels, where ``K`` classes have some (King and Zeng
    2001). Returns None, for equally much, unless ``balanced``.
    """
    if not balanced or not len(labels):
        return None
    counts = torch.bincount(labels).double()
    return len(labels) / (torch.count_nonzero(counts) * counts[labels])


def _folds(labels: Tensor, trusted: Tensor, seed: int) -> Tensor:
    """Assign each sample to the fold that holds it out, ``[n]``, the classes spread evenly.

    It is -1 for samples that are always trained on: labels that are not trusted, and the only trusted one of a class.
    """
    counts = torch.bincount(labels[trusted], minlength=int(labels.max()) + 1)
    free = torch.nonzero(trusted & (counts[labels] > 1))[:, 0]
    folds = torch.full((len(labels),), -1)
    order = free[torch.randperm(len(free), generator=torch.Generator().manual_seed(seed))]
    order = order[torch.argsort(labels[order], stable=True)]
    folds[order] = torch.arange(len(order)) % min(_FOLDS_OF_MANY if len(order) > _MANY else _FOLDS, max(len(order), 1))
    return folds


class _HeldOut(NamedTuple):
    """The least mean log loss on held-out samples, the penalty that gives it, and the logits ``[n, classes]``."""

    loss: float
    strength: float
    logits: Tensor


def _cross_validated(rotated: Rotated, labels: Tensor, class_count: int, folds: Tensor, balanced: bool) -> _HeldOut:
    """Choose the penalty, trying the strongest first and starting each fit from the one before.

    The first of equally good ones is kept. With fewer than two folds it is the middle one, untested.
    """
    unit = float(rotated.variances.sum()) or 1.0
    judged, parts = folds >= 0, range(int(folds.max()) + 1)
    logits = torch.full((len(labels), class_count), torch.nan, dtype=torch.float64)
    best, worse = _HeldOut(torch.inf, _MIDDLE * unit, logits), 0
    if len(parts) < 2:
        return best
    fits = [_fold(rotated, labels, class_count, folds == part, balanced) for part in parts]
    weights = [_nothing(rotated, class_count) for _ in parts]
    for strength in (each * unit for each in _STRENGTHS):
        logits = logits.clone()
        for part, (held, samples, others) in enumerate(fits):
            weights[part], _ = others.minimised(strength, weights[part], _GRADIENT_MIN)
            logits[held] = samples @ weights[part][:, :-1].T + weights[part][:, -1]
        loss = _mean_loss(logits[judged], labels[judged], balanced)
        worse = 0 if loss < best.loss else worse + 1
        if loss < best.loss:
            best = _HeldOut(loss, strength, logits)
        if worse == _WORSE_MAX:
            break
    return best


def _fold(
    rotated: Rotated, labels: Tensor, class_count: int, held: Tensor, balanced: bool
) -> tuple[Tensor, Tensor, LogLoss]:
    """Return the places of the samples that a fold holds out, the rotated samples there, and the loss of the others."""
    kept = labels[~held]
    others = LogLoss(rotated.samples[~held], kept, rotated.variances, class_count, _counting(kept, balanced))
    places = torch.nonzero(held)[:, 0]
    return places, rotated.samples[places], others


def _mean_loss(logits: Tensor, labels: Tensor, balanced: bool) -> float:
    counting = _counting(labels, balanced)
    if counting is None:
        return float(torch.nn.functional.cross_entropy(logits, labels))
    return float((torch.nn.functional.cross_entropy(logits, labels, reduction="none") * counting).mean())


def _calibrated(logits: Tensor, labels: Tensor, folds: Tensor, balanced: bool) -> NDArray[np.float64]:
    """Compute probabilities ``[n, classes]``, those of each fold at the temperature that is best for the others."""
    probabilities = torch.full_like(logits, torch.nan)
    for part in range(int(folds.max()) + 1):
        held, others = folds == part, (folds != part) & (folds >= 0)
        known, counting = labels[others], _counting(labels[others], balanced)
        probabilities[held] = torch.softmax(logits[held] / best_temperature(logits[others], known, counting), 1)
    return np.asarray(probabilities.numpy(), np.float64)
