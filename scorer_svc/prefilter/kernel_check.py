"""Check a kernel against arithmetic in numpy on a few samples, before it is used."""

from __future__ import annotations

import numpy as np
from labelloop.scorer.v1.scorer_pb2 import Strategy
from numpy.typing import NDArray

from scorer_svc.prefilter.integer_kernel import Kernel, bounds, logits, opposite, order
from scorer_svc.prefilter.layout import Layout
from scorer_svc.prefilter.quantisation import SAMPLE_MAX, Quantised
from scorer_svc.prefilter.score_bounds import lowest_scores, rounding_slack
from scorer_svc.strategies.uncertainty import BY_MODEL

_LOGIT_MAX, _ERROR = 8.0, 2.0  # of a sample of the highest values


def is_right(kernel: Kernel) -> bool:
    """Check that logits agree with integer arithmetic bit for bit, and that scores are bounded as closely as is said.

    The samples and weights include the extremes. The number of samples is none of a whole number of blocks.
    """
    layout = kernel.layout
    chance = np.random.default_rng(layout.features * layout.classes)
    pool = chance.integers(0, SAMPLE_MAX + 1, (layout.block + 5, layout.features)).astype(np.uint8)
    pool[:2] = [[0], [SAMPLE_MAX]]
    positions = np.r_[0:4, 6 : len(pool)]
    model = _extreme(layout, chance)
    weights = order(model, kernel)
    sums = pool[positions].astype(np.int64) @ model.weights.T.astype(np.int64)
    expected = (sums.astype(np.float32) * model.scales + model.bias).T
    if not np.array_equal(logits(pool, positions, weights), expected):
        return False
    exact = expected.astype(np.float64)
    return all(
        _are_close(bounds(pool, positions, side, strategy), exact, strategy, side.side)
        for side in (weights, opposite(weights))
        for strategy in BY_MODEL
    )


def _are_close(found: NDArray[np.float32], exact: NDArray[np.float64], strategy: Strategy.ValueType, side: int) -> bool:
    """Check that bounds are off by no more than what rounding is said to change."""
    slack, errors = rounding_slack(strategy, len(exact) - 1), exact[-1]
    bounded = lowest_scores(exact[:-1], side * errors, strategy, side * slack)
    return bool((np.abs(found - bounded) <= slack * np.exp(errors)).all())


def _extreme(layout: Layout, chance: np.random.Generator) -> Quantised:
    """Return a model of the largest weights whose sums fit, in both directions, and of random ones."""
    most = min(layout.instructions.weight_max, (2**31 - 1) // (SAMPLE_MAX * layout.features))
    weights = chance.integers(-most, most + 1, (layout.rows, layout.features)).astype(np.int32)
    weights[0], weights[1] = -most, most
    weights[-1] = np.abs(weights[-1])
    weights[-1, ::2] = most
    sums = SAMPLE_MAX * np.maximum(np.maximum(weights, 0).sum(axis=1), -np.minimum(weights, 0).sum(axis=1))
    scales = _LOGIT_MAX / sums
    scales[-1] = _ERROR / sums[-1]
    bias = chance.normal(size=layout.rows)
    bias[-1] = 0
    return Quantised(weights, scales.astype(np.float32), bias.astype(np.float32))
