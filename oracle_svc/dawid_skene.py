"""The model of A. P. Dawid and A. M. Skene, "Maximum Likelihood Estimation of Observer Error-Rates Using the EM
Algorithm", Journal of the Royal Statistical Society, Series C 28(1), 1979, pp. 20-28. Pure.

Each annotator has a confusion matrix, and each sample one class. Expectation maximisation estimates the two in turn,
beginning with the share of answers for each class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

_ITERATIONS_MAX = 100
_TOLERANCE = 1e-7

Answer = tuple[int, str, int]


def class_posteriors(
    answers: Sequence[Answer], truth: Mapping[int, int], *, prior: float = 1.0
) -> dict[int, dict[int, float]]:
    """Return how probable each class is, by sample, given ``answers`` of (sample, annotator, class).

    ``truth`` is the class of samples where it is known: their posterior is fixed, so they tell how each annotator errs.
    How frequent classes are is estimated without them, since somebody chose them. ``prior`` counts as so many answers
    of each annotator on each class, and so many samples, spread evenly over the classes. Without one (close to 0), an
    error that an annotator has not made in a few answers is taken for impossible, and outweighs everybody else.

    Ends after 100 iterations, or when no probability changes by 1e-7. The order of ``answers`` does not matter. Classes
    are those that occur in ``answers`` and in ``truth``.
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
    posterior = _maximised(sample, annotator, said, certain, prior / len(classes))
    return {
        key: dict(zip(classes.tolist(), row, strict=True))
        for key, row in zip(samples.tolist(), posterior.tolist(), strict=True)
    }


def _maximised(
    sample: NDArray[np.intp],
    annotator: NDArray[np.intp],
    said: NDArray[np.intp],
    certain: NDArray[np.float64],
    pseudo_count: float,
) -> NDArray[np.float64]:
    """Return posteriors [samples, classes]. Answers are three indices [answers] each; ``certain`` [samples, classes]
    holds the posterior of samples whose class is known, and NaN for others."""
    unknown = np.isnan(certain)
    posterior = np.zeros(certain.shape)
    np.add.at(posterior, (sample, said), 1.0)
    posterior = np.where(unknown, posterior / posterior.sum(axis=1, keepdims=True), certain)
    shape = annotator.max() + 1, certain.shape[1], certain.shape[1]
    for _ in range(_ITERATIONS_MAX):
        confusion = np.full(shape, pseudo_count)  # [annotator, class said, true class]
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
