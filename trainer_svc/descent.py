"""Softmax regression with an L2 penalty, minimised in coordinates that make it easy. Pure.

The solution lies in the span of the samples, so that they can be rotated into as many dimensions as there are samples,
where those are fewer than features; and where each direction is scaled by about the root of its curvature, L-BFGS
(Liu and Nocedal 1989) needs a dozen steps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

_MEMORY = 10
_STEPS_MAX = 200
_ENOUGH = 1e-4  # of what the slope promises (Armijo 1966)
_HALVINGS_MAX = 30
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
    scaled = torch.cat([samples, ones], 1) * scale
    targets = torch.nn.functional.one_hot(labels, class_count).double()
    penalty = l2 * scale**2
    penalty[-1] = 0

    def loss_and_gradient(weights: Tensor) -> tuple[float, Tensor]:
        logits = scaled @ weights.T
        logs = torch.log_softmax(logits, 1)
        loss = -(logs * targets).sum() / len(labels) + (penalty * weights**2).sum() / 2
        gradient = (logs.exp() - targets).T @ scaled / len(labels) + penalty * weights
        return float(loss), gradient

    weights, steps = _lbfgs(loss_and_gradient, start / scale, gradient_min)
    return weights * scale, steps


def _lbfgs(
    loss_and_gradient: Callable[[Tensor], tuple[float, Tensor]], weights: Tensor, gradient_min: float
) -> tuple[Tensor, int]:
    pairs: deque[tuple[Tensor, Tensor]] = deque(maxlen=_MEMORY)
    loss, gradient = loss_and_gradient(weights)
    for step in range(_STEPS_MAX):
        if float(gradient.abs().max()) < gradient_min:
            return weights, step
        direction = -_times_inverse(pairs, gradient)
        slope, length = float((gradient * direction).sum()), 1.0
        for _ in range(_HALVINGS_MAX):
            moved = weights + length * direction
            new_loss, new_gradient = loss_and_gradient(moved)
            if new_loss <= loss + _ENOUGH * length * slope:
                break
            length /= 2
        else:
            return weights, step  # as low as float64 can tell
        change, bend = moved - weights, new_gradient - gradient
        if float((change * bend).sum()) > 1e-12 * float((bend * bend).sum()):
            pairs.append((change, bend))
        weights, loss, gradient = moved, new_loss, new_gradient
    return weights, _STEPS_MAX


def _times_inverse(pairs: deque[tuple[Tensor, Tensor]], gradient: Tensor) -> Tensor:
    """The product with the estimate of the inverse Hessian (Nocedal 1980, the two-loop recursion)."""
    result, shares = gradient.clone(), []
    for change, bend in reversed(pairs):
        share = (change * result).sum() / (change * bend).sum()
        shares.append(share)
        result -= share * bend
    if pairs:
        change, bend = pairs[-1]
        result *= (change * bend).sum() / (bend * bend).sum()
    for (change, bend), share in zip(pairs, reversed(shares), strict=True):
        result += (share - (bend * result).sum() / (change * bend).sum()) * change
    return result
