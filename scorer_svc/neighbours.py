"""Where samples lie among each other: coordinates that change little between near neighbours, however far apart two
samples are that many such steps connect. What is labelled says much of its cluster then. Pure.

They are the first eigenvectors of the graph of near neighbours (Belkin and Niyogi 2003, with the scales of
Zelnik-Manor and Perona 2004), taken to new samples as the weighted mean of their neighbours' (Nyström's formula: Bengio
and others 2004). scikit-learn's spectral embedding has no way to take it to new samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scorer_svc.principal import Values, half_whitening

LANDMARKS_MIN, LANDMARKS_MAX = 100, 4_000
COORDINATES = 24
NEIGHBOURS = 20
SHARPNESS = 2.0
_WIDTH_AT = 7  # the neighbour whose distance is a landmark's width
_NARROW = 1e-2  # of the root mean square of all distances: less is rounding, as between duplicates
NOTHING = 1e-12  # what weights sum up to where there are none


@dataclass(frozen=True)
class Neighbourhood:
    """Samples less ``mean`` ``[values]``, times ``onto`` ``[values, components]``, lie among ``landmarks``
    ``[m, components]`` of ``widths`` ``[m]``, whose coordinates are ``[m, coordinates]``. Distances that are less than
    ``reach_min`` times a width are none."""

    mean: Values
    onto: Values
    landmarks: Values
    widths: NDArray[np.float32]
    reach_min: float
    coordinates: Values


def learn_neighbourhood(samples: Values, seed: int, length: float) -> Neighbourhood:
    """Of landmarks ``[m, values]``, at least LANDMARKS_MIN; ``length`` is the root mean square of all coordinates of a
    landmark together."""
    from scipy.sparse import csr_matrix, diags  # with scikit-learn: most scorers never need it

    mean, onto = half_whitening(samples, seed)
    landmarks = np.asarray((samples - mean) @ onto, np.float32)
    apart = _squared_distances(landmarks)
    widths = np.sqrt(np.partition(apart, _WIDTH_AT, axis=1)[:, _WIDTH_AT])
    narrow = max(float(_NARROW * np.sqrt(apart.mean())), 1e-6)
    widths = np.asarray(np.maximum(widths, narrow), np.float32)
    own = _weights(np.asarray(apart / widths, np.float32), narrow)
    graph = csr_matrix(own - np.diag(np.diag(own)))
    graph = graph.maximum(graph.T).astype(np.float64)
    degrees = np.maximum(np.asarray(graph.sum(axis=1)).ravel(), NOTHING)
    scale = diags(1 / np.sqrt(degrees))
    inner = _leading(scale @ graph @ scale, seed)[:, 1:] / np.sqrt(degrees)[:, None]  # the first is the same for all
    seen = own @ inner / np.maximum(own.sum(axis=1, keepdims=True), NOTHING)
    spread = np.sqrt(((seen - seen.mean(axis=0)) ** 2).sum(axis=1).mean())
    coordinates = ((inner - seen.mean(axis=0)) * (length / max(spread, NOTHING))).astype(np.float32)
    return Neighbourhood(mean, onto, landmarks, widths, narrow, coordinates)


def _leading(matrix: Any, seed: int) -> NDArray[np.float64]:
    """One eigenvector more than there are coordinates, those of the largest eigenvalues first: by Lanczos' method, or
    where that finds no new directions, as among duplicates, by taking the whole matrix apart."""
    from scipy.linalg import eigh
    from scipy.sparse.linalg import ArpackError, eigsh

    size, count = matrix.shape[0], COORDINATES + 1
    start = np.random.default_rng(seed).normal(size=size)
    try:
        values, vectors = eigsh(matrix, k=count, which="LA", v0=start)
    except ArpackError:
        values, vectors = eigh(matrix.toarray(), subset_by_index=[size - count, size - 1])
    found: NDArray[np.float64] = vectors[:, np.argsort(-values)]
    return found


def _squared_distances(points: Values) -> NDArray[np.float32]:
    squares = (points**2).sum(axis=1)
    apart: NDArray[np.float32] = np.maximum(squares[:, None] + squares - 2 * points @ points.T, 0)
    return apart


def _weights(relative: NDArray[np.float32], reach_min: float) -> NDArray[np.float32]:
    """Of squared distances over landmarks' widths ``[n, m]``: they fall to 0 at the twentieth neighbour."""
    reach = np.partition(relative, NEIGHBOURS - 1, axis=1)[:, NEIGHBOURS - 1 : NEIGHBOURS]
    weights: NDArray[np.float32] = np.exp(-SHARPNESS * relative / np.maximum(reach, reach_min)) - np.exp(-SHARPNESS)
    return np.maximum(weights, 0)
