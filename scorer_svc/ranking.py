"""A pool in the order of a strategy. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from labelloop.scorer.v1.scorer_pb2 import Strategy
from labelloop.wire.errors import InvalidInput
from numpy.typing import NDArray

from scorer_svc.model import Model
from scorer_svc.selection import BY_MODEL, Ids, Scores, best_first, in_order, random_scores


@dataclass(frozen=True)
class Ranking:
    """Arrays of one length, best first; ``predicted`` and ``confidence`` are empty without a model."""

    sample_ids: Ids
    predicted: NDArray[np.int64]
    confidence: Scores
    score: Scores


def rank(
    samples: NDArray[Any], free: Ids, strategy: Strategy.ValueType, limit: int, seed: int, model: Model | None
) -> Ranking:
    """The first ``limit`` of the samples whose ids are ``free``; all of them where ``limit`` is 0.

    InvalidInput for a strategy that needs a model and has none, or a model for samples of another size.
    """
    probabilities = _probabilities(model, samples)[free] if model else None
    scores = _scores(strategy, free, seed, probabilities)
    first = best_first(free, scores, limit)
    if probabilities is None:
        return Ranking(free[first], np.empty(0, np.int64), np.empty(0, np.float32), scores[first])
    chosen = probabilities[first]
    return Ranking(free[first], chosen.argmax(axis=1), chosen.max(axis=1), scores[first])


def _scores(strategy: Strategy.ValueType, free: Ids, seed: int, probabilities: NDArray[np.float32] | None) -> Scores:
    if strategy == Strategy.STRATEGY_IN_ORDER:
        return in_order(free)
    if strategy == Strategy.STRATEGY_RANDOM:
        return random_scores(free, seed)
    if strategy not in BY_MODEL:
        raise InvalidInput("UNKNOWN_STRATEGY", "name a strategy", field="strategy")
    if probabilities is None:
        message = f"{Strategy.Name(strategy)} ranks by a model's answers: name a model"
        raise InvalidInput("MODEL_MISSING", message, field="model_sha256", strategy=Strategy.Name(strategy))
    return BY_MODEL[strategy](probabilities)


def _probabilities(model: Model, samples: NDArray[Any]) -> NDArray[np.float32]:
    size = int(np.prod(samples.shape[1:]))
    if model.feature_count != size:
        message = f"the model takes {model.feature_count} values a sample, but the pool's samples have {size}"
        raise InvalidInput("MODEL_DOES_NOT_FIT", message, field="model_sha256", takes=model.feature_count, has=size)
    return model.probabilities(samples)
