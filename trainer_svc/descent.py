"""Softmax regression with an L2 penalty, minimised in coordinates that make it easy. Pure.

The solution lies in the span of the samples, so that they can be rotated into as many dimensions as there are samples,
where those are fewer than features; and where each direction is scaled by about the root of its curvature, L-BFGS
(Liu and Nocedal 1989) needs a dozen steps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from trainer_svc.lbfgs import Vector, lbfgs

_RANK_MIN = 1e-10  # of the largest variance


@dataclass(frozen=True)
class Rotated:
    """Samples ``[n, r]`` less their ``mean`` ``[f]`` in coordinates along ``directions`` ``[f, r]``, and the mean
    square along each, ``variances`` ``[r]``, all float64."""

    samples: Tensor
    mean: Tensor
    directions: Tensor
    variances: Tensor

    def favouring(self, power: float) -> Rotated:
        """The same, each direction stretched by its variance to the ``power``, the widest one as it was: an L2 penalty
        then spares the directions that samples vary along most."""
        stretched = (self.variances / self.variances[-1:]) ** power
        return replace(
            self,
            samples=self.samples * stretched,
            directions=self.directions * stretched,
            variances=self.variances * stretched**2,
        )

    def unrotated(self, weights: Tensor) -> Tensor:
        """Weights ``[classes, r + 1]``, the bias last, as ``[classes, f + 1]`` for samples as they were."""
        kernel = weights[:, :-1] @ self.directions.T
        return torch.cat([kernel, (weights[:, -1] - kernel @ self.mean)[:, None]], 1)


def rotate(features: Tensor) -> Rotated:
    """Of features ``[n, f]``."""
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
) -> tuple[Tensor, int]:
    """Weights ``[classes, r + 1]`` with the least mean log loss plus ``l2 / 2`` times their squares, the bias left out,
    and the steps it took from ``start`` until no component of the gradient is larger than ``gradient_min``."""
    scale = torch.cat([1 / torch.sqrt(variances / 4 + l2), torch.full((1,), 2.0, dtype=torch.float64)])
    ones = torch.ones(len(samples), 1, dtype=torch.float64)
    penalty = l2 * scale**2
    penalty[-1] = 0
    loss = _Loss(torch.cat([samples, ones], 1) * scale, labels, penalty, class_count)
    weights, steps = lbfgs(loss, (start / scale).flatten().numpy(), gradient_min)
    return torch.from_numpy(weights).view(class_count, -1) * scale, steps


class _Loss:
    """The mean log loss of ``samples`` ``[n, r + 1]``, plus half of ``penalty`` ``[r + 1]`` times the squares of the
    weights, and its gradient, of weights ``[classes * (r + 1)]``."""

    def __init__(self, samples: Tensor, labels: Tensor, penalty: Tensor, class_count: int) -> None:
        self._samples, self._penalty = samples.numpy(), penalty.numpy()
        self._samples_t = np.ascontiguousarray(self._samples.T)  # a product with it takes three quarters of the time
        self._shape = class_count, samples.shape[1]
        self._own = (labels * len(labels) + torch.arange(len(labels))).numpy()  # of each sample, its class's logit
        self._logits = np.empty((class_count, len(samples)))

    def __call__(self, weights: Vector) -> tuple[float, Vector]:
        matrix, count = weights.reshape(self._shape), len(self._samples)
        logits = np.matmul(matrix, self._samples_t, out=self._logits)
        logits -= logits.max(axis=0)
        own = logits.take(self._own).sum()
        errors = np.exp(logits, out=logits)  # in place: probabilities, less 1 at each sample's class
        sums = errors.sum(axis=0)
        errors /= sums
        errors.ravel()[self._own] -= 1
        gradient = errors @ self._samples
        gradient /= count
        shrinking = self._penalty * matrix
        gradient += shrinking
        shrinking *= matrix
        return float((np.log(sums).sum() - own) / count + shrinking.sum() / 2), gradient.ravel()
