"""Define the properties of query strategies that trainer and scorer must agree on."""

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
"""Strategies that choose a batch as a whole and must see the whole pool: rankings of its parts cannot be merged."""

TOGETHER_MAX = 10_000
"""Maximum size of such a batch, in samples."""

TOGETHER_AT_LEAST = 2
"""Minimum number of candidates to choose from, as a multiple of the batch size."""

TOGETHER_VALUES_MAX = 250_000_000
"""Maximum number of candidate values held in memory at once: 1 GB."""

NEED_NO_MODEL = frozenset(
    {
        Strategy.STRATEGY_IN_ORDER,
        Strategy.STRATEGY_RANDOM,
        Strategy.STRATEGY_TYPICLUST,
        Strategy.STRATEGY_K_MEANS,
        Strategy.STRATEGY_K_CENTER,
    }
)
"""Strategies that can choose the first batch."""
