"""Fit softmax regression with an L2 penalty, in coordinates in which few steps suffice. No I/O.

The solution lies in the span of the samples, so that these can be rotated into as many dimensions as there are samples
if there are fewer of them than features. With each direction scaled by about the root of its curvature, L-BFGS (Liu and
Nocedal 1989) then needs a dozen steps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainer_svc.model.lbfgs import Vector, lbfgs

_RANK_MIN = 1e-10  # of the largest variance


@dataclass(frozen=True)
class Rotated:
    """Centred samples in rotated coordinates, all float64.

    Attributes:
        samples: Samples less their mean, in coordinates along ``span @ combinations``, ``[n, r]``.
        mean: Mean of the samples, ``[f]``.
        span: Vectors that span the directions of the coordinates, ``[f, k]``.
        combinations: The directions in terms of these, ``[k, r]``. The product, as large as the samples, is not needed.
        variances: Mean square along each direction, ``[r]``.
    """

    samples: Tensor
    mean: Tensor
    span: Tensor
    combinations: Tensor
    variances: Tensor

    def favouring(self, power: float) -> Rotated:
        """Stretch each direction by its variance to the ``power``, relative to the largest, which stays the same.

        An L2 penalty then spares the directions along which the samples vary most.
        """
        stretched = (self.variances / self.variances[-1:]) ** power
        return replace(
            self,
            samples=self.samples * stretched,
            combinations=self.combinations * stretched,
            variances=self.variances * stretched**2,
        )

    def unrotated(self, weights: Tensor) -> Tensor:
        """Convert weights ``[classes, r + 1]``, the bias last, to ``[classes, f + 1]`` for the original samples."""
        kernel = weights[:, :-1] @ self.combinations.T @ self.span.T
        return torch.cat([kernel, (weights[:, -1] - kernel @ self.mean)[:, None]], 1)


def rotate(features: Tensor) -> Rotated:
    """Centre and rotate features ``[n, f]``, dropping directions along which they do not vary.

    With fewer samples than features, the eigenvectors of their products with each other are the rotated samples
    themselves, but for a factor each.
    """
    mean = features.double().mean(0)
    centred = features.double() - mean
    wide = centred.shape[0] < centred.shape[1]
    values = centred.numpy()  # of whose product with itself NumPy computes one half
    products = torch.from_numpy(values @ values.T if wide else values.T @ values)
    squares, vectors = torch.linalg.eigh(products)
    kept = squares > _RANK_MIN * squares[-1].clamp(min=1e-30)
    squares, vectors = squares[kept], vectors[:, kept]
    variances, roots = squares / len(features), squares.sqrt()
    if wide:
        return Rotated(vectors * roots, mean, centred.T, vectors / roots, variances)
    samples = torch.from_numpy(values @ vectors.numpy())
    return Rotated(samples, mean, vectors, torch.eye(len(squares), dtype=torch.float64), variances)


def minimise(
    samples: Tensor,
    labels: Tensor,
    variances: Tensor,
    class_count: int,
    l2: float,
    start: Tensor,
    gradient_min: float,
    counting: Tensor | None = None,
) -> tuple[Tensor, int]:
    """Minimise once, as :meth:`LogLoss.minimised` does."""
    return LogLoss(samples, labels, variances, class_count, counting).minimised(l2, start, gradient_min)


class LogLoss:
    """The mean log loss over samples, to be minimised with one penalty or several.

    Args:
        samples: Rotated samples, ``[n, r]``.
        labels: ``[n]``.
        variances: Of the directions, ``[r]``.
        class_count: Number of classes.
        counting: How much each sample counts in the mean, ``[n]`` and 1 on average; None for equally much.
    """

    def __init__(
        self, samples: Tensor, labels: Tensor, variances: Tensor, class_count: int, counting: Tensor | None = None
    ) -> None:
        ones = torch.ones(len(samples), 1, dtype=torch.float64)
        self._samples = torch.cat([samples, ones], 1).numpy()
        self._samples_t = np.ascontiguousarray(self._samples.T)
        self._variances, self._class_count = variances, class_count
        self._own = (labels * len(labels) + torch.arange(len(labels))).numpy()  # flat index of each own-class logit
        self._counting = None if counting is None else counting.numpy()

    def minimised(self, l2: float, start: Tensor, gradient_min: float) -> tuple[Tensor, int]:
        """Find the weights with the least mean log loss plus ``l2 / 2`` times their squares, without the bias.

        Starts from ``start`` and ends as :func:`lbfgs` does; ``gradient_min`` applies to the gradient in the scaled
        coordinates.

        Returns:
            The weights, ``[classes, r + 1]``, and the number of steps.
        """
        scale = torch.cat([1 / torch.sqrt(self._variances / 4 + l2), torch.full((1,), 2.0, dtype=torch.float64)])
        penalty = l2 * scale**2
        penalty[-1] = 0
        scales = scale.numpy()
        samples, samples_t = self._samples * scales, self._samples_t * scales[:, None]
        loss = _Loss(samples, samples_t, self._own, penalty.numpy(), self._class_count, self._counting)
        weights, steps = lbfgs(loss, (start / scale).flatten().numpy(), gradient_min)
        return torch.from_numpy(weights).view(self._class_count, -1) * scale, steps


class _Loss:
    """The penalised mean log loss of weights ``[classes * (r + 1)]``, and its gradient.

    The loss is over ``samples`` ``[n, r + 1]``, each of which counts as ``counting`` ``[n]`` says; half of ``penalty``
    ``[r + 1]`` times the squared weights is added. ``own`` ``[n]`` are the flat indices of each sample's own class
    among logits ``[classes, n]``. ``samples_t`` holds the samples once more, transposed in memory: a product with it
    takes three quarters of the time.
    """

    def __init__(
        self,
        samples: NDArray[np.float64],
        samples_t: NDArray[np.float64],
        own: NDArray[np.int64],
        penalty: NDArray[np.float64],
        class_count: int,
        counting: NDArray[np.float64] | None,
    ) -> None:
        self._samples, self._samples_t, self._own, self._penalty = samples, samples_t, own, penalty
        self._shape, self._counting = (class_count, samples.shape[1]), counting
        self._logits = np.empty((class_count, len(samples)))

    def __call__(self, weights: Vector) -> tuple[float, Vector]:
        matrix, count, add = weights.reshape(self._shape), len(self._samples), np.add.reduce
        logits = np.matmul(matrix, self._samples_t, out=self._logits)
        logits -= np.maximum.reduce(logits, axis=0)
        own = logits.take(self._own)
        errors = np.exp(logits, out=logits)  # in place: probabilities, less 1 at each sample's class
        sums = add(errors, axis=0)
        errors /= sums
        errors.ravel()[self._own] -= 1
        losses = np.log(sums)
        if self._counting is not None:
            errors *= self._counting
            losses *= self._counting
            own *= self._counting
        gradient = errors @ self._samples
        gradient /= count
        shrinking = self._penalty * matrix
        gradient += shrinking
        shrinking *= matrix
        mean = (add(losses) - add(own)) / count
        return float(mean + add(shrinking, axis=None) / 2), gradient.ravel()
