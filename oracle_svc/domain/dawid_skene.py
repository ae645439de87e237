"""Estimate class probabilities from several annotators' results with the Dawid-Skene model. Pure functions.

Each annotator has a confusion matrix, and each sample one class. Expectation maximisation estimates the two in turn,
starting from the share of results for each class. Source: A. P. Dawid and A. M. Skene, "Maximum Likelihood Estimation
of Observer Error-Rates Using the EM Algorithm", Journal of the Royal Statistical Society, Series C 28(1), 1979,
pp. 20-28.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

_ITERATIONS_MAX = 100
_TOLERANCE = 1e-7
_EXPECTED = 0.8
"""Share of right results of an annotator whose results for samples of known class are not known."""

_EXPECTED_WEIGHT = 1.0
"""Results that the expectation weighs like."""

Answer = tuple[int, str, int]


def class_posteriors(
    answers: Sequence[Answer], truth: Mapping[int, int], *, prior: float = 1.0, led: bool = False
) -> dict[int, dict[int, float]]:
    """Return the probability of each class, by sample.

    Stops after 100 iterations, or when every probability changes by less than 1e-7. The classes are those that occur in
    ``answers``, or in ``truth`` for a sample in ``answers``.

    Args:
        answers: Results as (sample, annotator, class), in any order.
        truth: Known classes by sample. The posteriors of these samples are fixed, so they show how each annotator errs.
            Class frequencies are estimated without them, because these samples were chosen, not drawn.
        prior: Pseudo-count of results per annotator and class, and of samples, spread evenly over the classes. With a
            prior close to 0, an error that an annotator has not made in a few results counts as impossible, and that
            annotator outweighs everybody else.
        led: Start from what the samples of known class show of each annotator, and spread the pseudo-counts of results
            accordingly, instead of starting from the share of results for each class. Otherwise the estimate may settle
            on believing an annotator who is always wrong. Runs of earlier releases are resolved without it.
    """
    if not answers:
        return {}
    rows = sorted(answers)
    samples, sample = np.unique([row[0] for row in rows], return_inverse=True)
    annotator = np.unique([row[1] for row in rows], return_inverse=True)[1]
    known = {i: truth[each] for i, each in enumerate(samples.tolist()) if each in truth}
    classes = np.unique([row[2] for row in rows] + list(known.values()))
    said = np.searchsorted(classes, [row[2] for row in rows])
    certain = np.full((len(samples), len(classes)), np.nan)
    certain[list(known)] = np.eye(len(classes))[np.searchsorted(classes, list(known.values()))]
    even = prior / len(classes)
    pseudo_counts = _led(sample, annotator, said, certain, prior) if led else np.float64(even)
    posterior = _maximised(sample, annotator, said, certain, even, pseudo_counts, led=led)
    return {
        key: dict(zip(classes.tolist(), row, strict=True))
        for key, row in zip(samples.tolist(), posterior.tolist(), strict=True)
    }


def _led(
    sample: NDArray[np.intp],
    annotator: NDArray[np.intp],
    said: NDArray[np.intp],
    certain: NDArray[np.float64],
    prior: float,
) -> NDArray[np.float64]:
    """Return pseudo-counts [annotators, classes given, true classes] that sum to ``prior`` for each true class.

    Each annotator's share of right results is that for samples of known class, drawn towards the expectation; their
    errors are spread evenly. Arguments are as for :func:`_maximised`.
    """
    classes = certain.shape[1]
    known = ~np.isnan(certain[sample, 0])
    hits = certain[sample, said] == 1.0
    right = np.bincount(annotator[known & hits], minlength=annotator.max() + 1)
    count = np.bincount(annotator[known], minlength=annotator.max() + 1)
    accuracy = (right + _EXPECTED * _EXPECTED_WEIGHT) / (count + _EXPECTED_WEIGHT)
    if classes == 1:
        return np.full((len(accuracy), 1, 1), prior)
    spread = np.repeat(((1 - accuracy) / (classes - 1))[:, None, None], classes, axis=1).repeat(classes, axis=2)
    diagonal = np.arange(classes)
    spread[:, diagonal, diagonal] = accuracy[:, None]
    return prior * spread


def _maximised(
    sample: NDArray[np.intp],
    annotator: NDArray[np.intp],
    said: NDArray[np.intp],
    certain: NDArray[np.float64],
    pseudo_count: float,
    pseudo_counts: NDArray[np.float64] | np.float64,
    *,
    led: bool,
) -> NDArray[np.float64]:
    """Return posteriors [samples, classes].

    Args:
        sample: Sample index of each result [answers].
        annotator: Annotator index of each result [answers].
        said: Class index of each result [answers].
        certain: Posteriors of samples whose class is known, NaN for others [samples, classes].
        pseudo_count: Added to each count of samples.
        pseudo_counts: Added to each count of results [annotators, classes given, true classes], or one for all.
        led: Whether the first estimate of the annotators counts samples of known class alone.
    """
    unknown = np.isnan(certain)
    posterior = np.zeros(certain.shape)
    if not led:
        np.add.at(posterior, (sample, said), 1.0)
        posterior = np.where(unknown, posterior / posterior.sum(axis=1, keepdims=True), certain)
    else:
        posterior = np.where(unknown, posterior, certain)
    shape = annotator.max() + 1, certain.shape[1], certain.shape[1]
    for _ in range(_ITERATIONS_MAX):
        confusion = np.broadcast_to(pseudo_counts, shape).copy()  # [annotator, class given, true class]
        np.add.at(confusion, (annotator, said), posterior[sample])
        confusion /= confusion.sum(axis=1, keepdims=True)
        frequency = posterior.sum(axis=0, where=unknown) + pseudo_count
        logits = np.tile(np.log(frequency), (len(certain), 1))
        np.add.at(logits, sample, np.log(confusion[annotator, said]))
        likelihood = np.exp(logits - logits.max(axis=1, keepdims=True))
        before, posterior = posterior, likelihood / likelihood.sum(axis=1, keepdims=True)
        posterior = np.where(unknown, posterior, certain)
        if np.abs(posterior - before).max() < _TOLERANCE:
            break
    return posterior
