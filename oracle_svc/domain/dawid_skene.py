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

Answer = tuple[int, str, int]


def class_posteriors(
    answers: Sequence[Answer], truth: Mapping[int, int], *, prior: float = 1.0
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
    """Return posteriors [samples, classes].

    Args:
        sample: Sample index of each result [answers].
        annotator: Annotator index of each result [answers].
        said: Class index of each result [answers].
        certain: Posteriors of samples whose class is known, NaN for others [samples, classes].
        pseudo_count: Added to each count of results and of samples.
    """
    unknown = np.isnan(certain)
    posterior = np.zeros(certain.shape)
    np.add.at(posterior, (sample, said), 1.0)
    posterior = np.where(unknown, posterior / posterior.sum(axis=1, keepdims=True), certain)
    shape = annotator.max() + 1, certain.shape[1], certain.shape[1]
    for _ in range(_ITERATIONS_MAX):
        confusion = np.full(shape, pseudo_count)  # [annotator, class given, true class]
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
