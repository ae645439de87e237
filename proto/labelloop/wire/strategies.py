"""What trainer and scorer must agree on about strategies."""

from __future__ import annotations

from labelloop.scorer.v1.scorer_pb2 import Strategy

CHOOSE_TOGETHER = frozenset(
    {
        Strategy.STRATEGY_CLUSTERED_MARGIN,
        Strategy.STRATEGY_BADGE,
        Strategy.STRATEGY_TYPICLUST,
        Strategy.STRATEGY_K_MEANS,
        Strategy.STRATEGY_DENSITY,
        Strategy.STRATEGY_POWER_MARGIN,
        Strategy.STRATEGY_K_CENTER,
    }
)
"""They choose a whole batch, so that they have to see the whole pool: parts of it cannot be merged."""

TOGETHER_MAX = 10_000
"""Samples in such a batch."""

TOGETHER_AT_LEAST = 2
"""Times the batch are the samples that any of them chooses from."""

TOGETHER_VALUES_MAX = 250_000_000
"""Values of the samples that such a batch is chosen from, held at once: 1 GB."""

NEED_NO_MODEL = frozenset(
    {
        Strategy.STRATEGY_IN_ORDER,
        Strategy.STRATEGY_RANDOM,
        Strategy.STRATEGY_TYPICLUST,
        Strategy.STRATEGY_K_MEANS,
        Strategy.STRATEGY_K_CENTER,
    }
)
"""They can choose the first batch."""
