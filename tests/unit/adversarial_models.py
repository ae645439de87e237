"""Softmax regressions that are hard to rank exactly, and samples for them."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

KINDS = ("small", "usual", "large", "huge", "equal logits", "nearly equal", "one dominates", "one weight", "tiny")


@cache
def weights_of(kind: str, features: int, classes: int, seed: int) -> NDArray[np.float32]:
    """Return weights and bias ``[classes, features + 1]`` for samples from 0 to 1."""
    chance = np.random.default_rng(seed)
    drawn = chance.normal(0, 1 / np.sqrt(features), (classes, features + 1))
    match kind:
        case "small":
            drawn *= 0.1
        case "large":
            drawn *= 30
        case "huge":
            drawn *= 3_000
        case "equal logits":
            drawn[:] = drawn[0]
        case "nearly equal":
            drawn = drawn[:1] + drawn * 1e-6
        case "one dominates":
            drawn[0, -1] = 12
        case "one weight":
            drawn[-1, features // 2] = 20
        case "tiny":
            drawn *= 1e-32
    return drawn.astype(np.float32)


def pool_of(features: int, count: int, seed: int, model: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return samples ``[count, features]``: random, dark, bright, repeated, and such as rounding changes most.

    The last ones are brightest where the weights of one class are rounded up, by a scale of int8, and of another down.
    """
    chance = np.random.default_rng(seed)
    pool = chance.integers(0, 256, (count, features)).astype(np.uint8)
    pool[count // 4 : count // 2] //= chance.integers(1, 256, (count // 2 - count // 4, 1)).astype(np.uint8)
    pool[: count // 8] = pool[chance.integers(0, 5, count // 8)]
    pool[:2] = [[0], [255]]
    scale = np.abs(model[:, :-1]).max(axis=1, keepdims=True) / 127
    remainder = model[:, :-1] / np.maximum(scale, 1e-38)
    remainder -= np.rint(remainder)
    for place in range(count // 2, count // 2 + min(count // 8, 20)):
        one, other = chance.permutation(len(model))[:2]
        pool[place] = np.where(remainder[one] > remainder[other], 255, 0)
    return pool
