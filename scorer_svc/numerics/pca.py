"""Project samples onto the few directions that they vary most along. Pure functions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float32]  # [n, values]
_COMPONENTS = 50
_ROUNDING = 1e-10  # of the largest variance: float32's rounding of none


def half_whitening(values: Values, seed: int) -> tuple[Values, Values]:
    """Compute the mean ``[values]`` and the half-whitening projection ``[values, components]`` of samples.

    Samples less their mean, times the projection, are their first principal components, each divided by the fourth root
    of its variance. Distances then depend less on the few that vary most, and those of noise count for nothing.
    Components that vary by no more than rounding are left out. If all samples are the same, there is one component of
    zeros.
    """
    from sklearn.decomposition import PCA  # a second and 60 MB that most scorers never need

    if len(values) < 2 or not np.ptp(values, axis=0).any():
        return values.mean(axis=0), np.zeros((values.shape[1], 1), np.float32)
    analysis = PCA(min(_COMPONENTS, *values.shape), svd_solver="randomized", random_state=seed % 2**32).fit(values)
    kept = analysis.explained_variance_ > _ROUNDING * analysis.explained_variance_[0]
    onto = analysis.components_[kept].T / analysis.explained_variance_[kept] ** 0.25
    return np.asarray(analysis.mean_, np.float32), np.asarray(onto, np.float32)


def half_whitened(values: Values, seed: int) -> Values:
    """Return ``values`` half whitened, ``[n, components]``."""
    mean, onto = half_whitening(values, seed)
    return np.asarray((values - mean) @ onto, np.float32)
