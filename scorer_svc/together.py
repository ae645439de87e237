"""Batches that are chosen together: what a strategy has to see of the pool, and what it makes of it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from labelloop.scorer.v1.scorer_pb2 import Strategy
from numpy.typing import NDArray

from scorer_svc.batches.candidates import Candidates
from scorer_svc.batches.choosing import CANDIDATES_MAX, choose, power_scores
from scorer_svc.ranking import Part, Question, Ranking, rank
from scorer_svc.selection import Ids, best_first

_TO_SPREAD = 10  # times the batch are the smallest margins that clustered margin spreads out
_SEEN_MAX = 10_000  # samples chosen before that a strategy keeps away from


def rank_together(parts: Sequence[Part], question: Question) -> Ranking:
    """The batch in the order chosen. ``limit`` 0, or more than there are, chooses among all; see ``batches`` for how
    many samples each strategy looks at."""
    if question.strategy == Strategy.STRATEGY_POWER_MARGIN:
        return _by_power_margin(parts, question)
    near = rank(parts, replace(question, strategy=_first_pass(question), limit=_shortlist(question)))
    order = np.argsort(near.sample_ids)
    ids = near.sample_ids[order]
    candidates = Candidates(
        ids=ids,
        values=values_of(parts, ids),
        probabilities=question.model.probabilities(samples_of(parts, ids)) if question.model else None,
        chosen=values_of(parts, _seen(parts, question)),
    )
    at, score = choose(question.strategy, candidates, min(question.limit or len(ids), len(ids)), question.seed)
    known = order[at] if len(near.predicted) else slice(0)
    return Ranking(ids[at], near.predicted[known], near.confidence[known], score)


def _first_pass(question: Question) -> Strategy.ValueType:
    clustered = question.strategy == Strategy.STRATEGY_CLUSTERED_MARGIN
    return Strategy.STRATEGY_MARGIN if clustered else Strategy.STRATEGY_RANDOM


def _shortlist(question: Question) -> int:
    if not question.limit:
        return 0
    if question.strategy == Strategy.STRATEGY_CLUSTERED_MARGIN:
        return _TO_SPREAD * question.limit
    return max(CANDIDATES_MAX, 2 * question.limit)


def _by_power_margin(parts: Sequence[Part], question: Question) -> Ranking:
    whole = rank(parts, replace(question, strategy=Strategy.STRATEGY_MARGIN, limit=0))
    score = power_scores(whole.sample_ids, whole.score, question.seed)
    first = best_first(whole.sample_ids, score, question.limit)
    return Ranking(whole.sample_ids[first], whole.predicted[first], whole.confidence[first], score[first])


def _seen(parts: Sequence[Part], question: Question) -> Ids:
    """Samples of the parts that were chosen before, the last of them by id where there are many."""
    held = [id_ for id_ in question.leave_out if any(part.first <= id_ < part.end for part in parts)]
    return np.array(held[-_SEEN_MAX:], np.uint32)


def samples_of(parts: Sequence[Part], ids: Ids) -> NDArray[Any]:
    """``[n, *shape]`` of ids in ascending order, all of which lie in ``parts``."""
    picked = []
    for part in parts:
        here = ids[(ids >= part.first) & (ids < part.end)]
        picked.append(part.samples[here - part.first])
    return np.concatenate(picked)


def values_of(parts: Sequence[Part], ids: Ids) -> NDArray[np.float32]:
    """The same as float32 ``[n, values]``, pixels scaled by 1/255."""
    samples = samples_of(parts, ids)
    flat: NDArray[np.float32] = samples.reshape(len(samples), int(np.prod(samples.shape[1:]))).astype(np.float32)
    if samples.dtype == np.uint8:
        flat /= 255
    return flat
