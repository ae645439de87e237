"""L-BFGS in its compact form, compared with the two-loop recursion that defines it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from trainer_svc.model.lbfgs import Vector, lbfgs

Loss = Callable[[Vector], tuple[float, Vector]]


def two_loops(loss: Loss, at: Vector, gradient_min: float, pairs_max: int) -> tuple[Vector, int]:
    """Minimize by the two-loop recursion (Nocedal 1980), with the same line search."""
    pairs: list[tuple[Vector, Vector]] = []
    value, gradient = loss(at)
    for step in range(200):
        if np.abs(gradient).max() < gradient_min:
            return at, step
        direction, shares = -gradient, []
        for moved, bent in reversed(pairs):
            shares.append((moved @ direction) / (moved @ bent))
            direction = direction - shares[-1] * bent
        if pairs:
            moved, bent = pairs[-1]
            direction = direction * (moved @ bent) / (bent @ bent)
        for (moved, bent), share in zip(pairs, reversed(shares), strict=True):
            direction = direction + (share - (bent @ direction) / (moved @ bent)) * moved
        length = 1.0
        while loss(at + length * direction)[0] > value + 1e-4 * length * (gradient @ direction):
            length /= 2
        value, new_gradient = loss(at + length * direction)
        pairs = [*pairs, (length * direction, new_gradient - gradient)][-pairs_max:]
        at, gradient = at + length * direction, new_gradient
    raise AssertionError("the reference converges")


def curved(size: int, seed: int) -> Loss:
    """Return a convex loss whose curvature varies."""
    rng = np.random.default_rng(seed)
    rows: NDArray[np.float64] = rng.normal(size=(3 * size, size)) * np.linspace(0.4, 2, size)

    def loss(at: Vector) -> tuple[float, Vector]:
        seen = rows @ (at - 1)
        return float(np.logaddexp(seen, -seen).sum() + 0.05 * at @ at), np.tanh(seen) @ rows + 0.1 * at

    return loss


@pytest.mark.parametrize("seed", range(5))
def test_the_steps_are_those_of_the_two_loop_recursion(seed: int) -> None:
    """There are more steps than remembered pairs, so that old pairs are dropped."""
    loss, start = curved(30, seed), np.full(30, 3.0)
    found, steps = lbfgs(loss, start, 1e-6)
    expected, expected_steps = two_loops(loss, start, 1e-6, pairs_max=10)
    assert steps == expected_steps > 20
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


def test_a_start_at_the_minimum_takes_no_step() -> None:
    start = np.ones(4)
    found, steps = lbfgs(lambda at: (float((at - 1) @ (at - 1)), 2 * (at - 1)), start, 1e-9)
    assert (found.tolist(), steps) == ([1.0] * 4, 0)


def test_the_search_ends_if_no_step_lowers_the_loss() -> None:
    """The gradient is wrong, as if float64 could not resolve a lower loss."""
    found, steps = lbfgs(lambda at: (float(at @ at), -at), np.ones(3), 1e-9)
    assert (found.tolist(), steps) == ([1.0] * 3, 0)
