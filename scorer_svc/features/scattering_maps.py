"""Learn linear maps of raw features from pictures and changed copies of them. Pure functions.

How features of a picture differ from those of a copy that was moved, turned or bent a little says what matters little
about a picture. A map that shrinks directions in which copies differ leaves samples of a class closer together.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from labelloop.domain.abandonment import check_wanted
from numpy.typing import NDArray

from scorer_svc.numerics.pca import Values

LENGTH = 20.0  # root mean square length of a sample's vector of values
COMPONENTS = 500
_RARE = 0.01  # of the largest standard deviation: features that vary less must not outweigh the others
_ALIKE = 1e-4  # of the largest feature: pictures that deviate less differ by rounding only
_ROUNDING = 1e-8  # of the largest variance: float32's rounding of none
_EVEN, _EVEN_FOR_NEIGHBOURS = 1.0, 0.01  # added to variances of differences, times their mean
_PLAIN_COMPONENTS, _INVARIANT_COMPONENTS = 50, 100

Reals = NDArray[np.float64]


class Principal(NamedTuple):
    """The principal components of raw features, each brought to the same deviation: less ``mean``, times ``onto``.

    Attributes:
        mean: ``[raw]``.
        onto: ``[raw, k]``.
        variances: ``[k]``, descending.
    """

    mean: Values
    onto: Values
    variances: Reals


class Maps(NamedTuple):
    """Maps from the principal components, float64.

    Attributes:
        values: ``[k, k]``, to what models see.
        plain: ``[k, up to 50]``, to places whose distances say which samples look alike as they are.
        invariant: ``[k, up to 100]``, the same, whether one was moved, turned or bent a little, or not.
    """

    values: Reals
    plain: Reals
    invariant: Reals


def principal(raw: Values, seed: int) -> Principal:
    """Find the principal components of raw features ``[n, raw]``, two samples at least.

    Raises:
        ValueError: the samples are all alike.
    """
    from sklearn.decomposition import PCA  # a second and 60 MB that most scorers never need

    deviation = raw.std(axis=0)
    if len(raw) < 2 or deviation.max() <= _ALIKE * np.abs(raw).max():
        raise ValueError("all of its pictures are alike")
    scale = (1 / np.maximum(deviation, _RARE * deviation.max())).astype(np.float32)
    check_wanted()
    count = min(COMPONENTS, len(raw) - 1, raw.shape[1])
    analysis = PCA(count, svd_solver="randomized", random_state=seed % 2**32).fit(raw * scale)
    check_wanted()
    variances = np.asarray(analysis.explained_variance_, np.float64)
    kept = variances > _ROUNDING * variances[0]
    onto = scale[:, None] * analysis.components_[kept].T
    return Principal(raw.mean(axis=0), np.asarray(onto, np.float32), variances[kept])


def maps(components: Values, differences: Values) -> Maps:
    """Learn maps from principal components ``[n, k]`` and ``differences`` ``[m, k]`` of changed copies from theirs."""
    exact = components.astype(np.float64)
    size = exact.shape[1]
    covariance, changing = exact.T @ exact / len(exact), _covariance(differences)
    unit = max(np.trace(changing), _ROUNDING * np.trace(covariance)) / size
    check_wanted()
    values = _inverse_root(changing, _EVEN * unit)
    evened = _inverse_root(changing, _EVEN_FOR_NEIGHBOURS * unit)
    shares, directions = np.linalg.eigh(evened @ covariance @ evened)
    shares, directions = shares[::-1][:_INVARIANT_COMPONENTS], directions[:, ::-1][:, :_INVARIANT_COMPONENTS]
    kept = shares > _ROUNDING * shares[0]
    invariant = evened @ directions[:, kept] * np.sqrt(shares[kept])
    plain = np.eye(size)[:, :_PLAIN_COMPONENTS] / np.diag(covariance)[:_PLAIN_COMPONENTS] ** 0.25
    return Maps(*(_of_length(each, exact) for each in (values, plain, invariant)))


def _covariance(differences: Values) -> Reals:
    exact = differences.astype(np.float64)
    return np.asarray(exact.T @ exact / len(exact), np.float64)


def _inverse_root(matrix: Reals, added: float) -> Reals:
    """Return the inverse of the symmetric root of ``matrix`` plus ``added`` along its diagonal."""
    variances, directions = np.linalg.eigh(matrix)
    return np.asarray(directions / np.sqrt(np.maximum(variances, 0) + added) @ directions.T, np.float64)


def _of_length(mapping: Reals, samples: Reals) -> Reals:
    length = np.sqrt(((samples @ mapping) ** 2).sum(axis=1).mean())
    return np.asarray(mapping * (LENGTH / length), np.float64)
