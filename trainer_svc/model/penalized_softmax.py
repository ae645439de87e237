"""Fit softmax regression with an L2 penalty, in coordinates in which few steps suffice. No I/O.

The solution lies in the span of the samples, so that these can be rotated into as many dimensions as there are samples
if there are fewer of them than features. With each direction scaled by about the root of its curvature, L-BFGS (Liu and
Nocedal 1989) then needs a dozen steps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from trainer_svc.model.lbfgs import Vector, lbfgs

_RANK_MIN = 1e-10  # of the largest variance


@dataclass(frozen=True)
class Rotated:
    """Centred samples in rotated coordinates, all float64.

    Attributes:
        samples: Samples less their mean, in coordinates along ``directions``, ``[n, r]``.
        mean: Mean of the samples, ``[f]``.
        directions: Directions of the coordinates, ``[f, r]``.
        variances: Mean square along each direction, ``[r]``.
    """

    samples: Tensor
    mean: Tensor
    directions: Tensor
    variances: Tensor

    def favouring(self, power: float) -> Rotated:
        """Stretch each direction by its variance to the ``power``, relative to the largest, which stays the same.

        An L2 penalty then spares the directions along which the samples vary most.
        """
        stretched = (self.variances / self.variances[-1:]) ** power
        return replace(
            self,
            samples=self.samples * stretched,
            directions=self.directions * stretched,
            variances=self.variances * stretched**2,
        )

    def unrotated(self, weights: Tensor) -> Tensor:
        """Convert weights ``[classes, r + 1]``, the bias last, to ``[classes, f + 1]`` for the original samples."""
        kernel = weights[:, :-1] @ self.directions.T
        return torch.cat([kernel, (weights[:, -1] - kernel @ self.mean)[:, None]], 1)


def rotate(features: Tensor) -> Rotated:
    """Centre and rotate features ``[n, f]``, dropping directions along which they do not vary."""
    mean = features.double().mean(0)
    centred = features.double() - mean
    wide = centred.shape[0] < centred.shape[1]
    squares, vectors = torch.linalg.eigh(centred @ centred.T if wide else centred.T @ centred)
    kept = squares > _RANK_MIN * squares[-1].clamp(min=1e-30)
    squares, vectors = squares[kept], vectors[:, kept]
    directions = centred.T @ (vectors / squares.sqrt()) if wide else vectors
    return Rotated(centred @ directions, mean, directions, squares / len(features))


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
    """Find the weights with the least mean log loss plus ``l2 / 2`` times their squares, without the bias.

    Starts from ``start`` and ends as :func:`lbfgs` does; ``gradient_min`` applies to the gradient in the scaled
    coordinates. ``counting`` ``[n]`` says how much each sample counts in the mean, 1 on average; None for equally much.

    Returns:
        The weights, ``[classes, r + 1]``, and the number of steps.
    """
    scale = torch.cat([1 / torch.sqrt(variances / 4 + l2), torch.full((1,), 2.0, dtype=torch.float64)])
    ones = torch.ones(len(samples), 1, dtype=torch.float64)
    penalty = l2 * scale**2
    penalty[-1] = 0
    loss = _Loss(torch.cat([samples, ones], 1) * scale, labels, penalty, class_count, counting)
    weights, steps = lbfgs(loss, (start / scale).flatten().numpy(), gradient_min)
    return torch.from_numpy(weights).view(class_count, -1) * scale, steps


class _Loss:
    """The penalised mean log loss of weights ``[classes * (r + 1)]``, and its gradient.

    The loss is over ``samples`` ``[n, r + 1]``, each of which counts as ``counting`` ``[n]`` says; half of ``penalty``
    ``[r + 1]`` times the squared weights is added.
    """

    def __init__(
        self, samples: Tensor, labels: Tensor, penalty: Tensor, class_count: int, counting: Tensor | None
    ) -> None:
        self._counting = None if counting is None else counting.numpy()
        self._samples, self._penalty = samples.numpy(), penalty.numpy()
        self._samples_t = np.ascontiguousarray(self._samples.T)  # a product with it takes three quarters of the time
        self._shape = class_count, samples.shape[1]
        self._own = (labels * len(labels) + torch.arange(len(labels))).numpy()  # flat index of each own-class logit
        self._logits = np.empty((class_count, len(samples)))

    def __call__(self, weights: Vector) -> tuple[float, Vector]:
        matrix, count = weights.reshape(self._shape), len(self._samples)
        logits = np.matmul(matrix, self._samples_t, out=self._logits)
        logits -= logits.max(axis=0)
        own = logits.take(self._own)
        errors = np.exp(logits, out=logits)  # in place: probabilities, less 1 at each sample's class
        sums = errors.sum(axis=0)
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
        return float((losses.sum() - own.sum()) / count + shrinking.sum() / 2), gradient.ravel()
