"""Tell pictures from other vectors: neighbouring pixels vary alike, down and across, and distant ones do not."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from labelloop.domain.sample_array import SampleArray

SAMPLES_MIN = 10  # fewer do not show how values vary
_SAMPLES_MAX = 1_000
_VALUES_MAX = 10_000_000  # looked at: 80 MB as float64
_VARYING = 0.1  # of the largest standard deviation: values that vary less are left out
_VARYING_SHARE_MIN = 0.25
_ALIKE_MIN = 0.25
_AHEAD_MIN = 0.15

Places = NDArray[np.intp]


def resemblance(samples: SampleArray, places: Places) -> float:
    """Return how much more alike neighbouring pixels are than distant ones, as a difference of correlations.

    It is 0 where samples are no pictures of this shape. Series and spectra are smooth along their values too, but two
    of their values that are a whole row apart are less alike than two that are half a row apart.

    Args:
        samples: ``[n, *shape]``.
        places: ``[channels, height, width]``, which value of a flat sample each pixel is.
    """
    varying, scores = _standard_scores(samples)
    if len(scores) < SAMPLES_MIN or varying.mean() < _VARYING_SHARE_MIN or min(places.shape[1:]) < 2:
        return 0.0
    down, across, *distant = (_correlation(scores, varying, *pair) for pair in _pairs(places))
    near = min(down, across)
    ahead = near - max(distant)
    return ahead if near >= _ALIKE_MIN and ahead >= _AHEAD_MIN else 0.0


def _pairs(places: Places) -> Iterator[tuple[Places, Places]]:
    """Yield pairs of pixels: neighbours down and across, then half a picture apart, then anywhere."""
    _, height, width = places.shape
    for rows, columns in ((1, 1), (height // 2, width // 2)):
        yield places[:, rows:], places[:, :-rows]
        yield places[:, :, columns:], places[:, :, :-columns]
    yield places, np.random.RandomState(0).permutation(places.ravel())


def _standard_scores(samples: SampleArray) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return which values vary, ``[values]``, and the values of some samples less their mean, over their deviation."""
    values = max(1, samples[:1].size)
    step = -(-len(samples) // max(SAMPLES_MIN, min(_SAMPLES_MAX, _VALUES_MAX // values)))
    scores = samples[::step].reshape(-1, values).astype(np.float64)
    scores -= scores.mean(axis=0)
    deviation = scores.std(axis=0)
    scores /= np.where(deviation > 0, deviation, 1)
    return deviation > _VARYING * deviation.max(), scores


def _correlation(scores: NDArray[np.float64], varying: NDArray[np.bool_], one: Places, other: Places) -> float:
    """Return the mean correlation of pairs of values that both vary; 0 if there are none."""
    first, second = one.ravel(), other.ravel()
    both = varying[first] & varying[second]
    if not both.any():
        return 0.0
    products = np.einsum("np,np->p", scores[:, first[both]], scores[:, second[both]])
    return float(products.mean() / len(scores))
