"""Rank batches that a strategy chooses jointly: shortlist candidates, then choose among them. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from labelloop.domain.strategies import TOGETHER_AT_LEAST, TOGETHER_MAX, TOGETHER_VALUES_MAX
from labelloop.errors import LimitExceeded
from labelloop.scorer.v1.scorer_pb2 import Strategy
from numpy.typing import NDArray
from pyroaring import BitMap

from scorer_svc.pools.part import Part
from scorer_svc.ranking.rank import Question, Ranking, rank
from scorer_svc.strategies.candidates import Candidates
from scorer_svc.strategies.registry import CANDIDATES_MAX, choose, power_scores
from scorer_svc.strategies.uncertainty import Ids, best_first

_TO_SPREAD = 10  # clustered margin looks at this many times the batch, of the smallest margins
_SEEN_MAX = 10_000  # samples chosen before, from which a strategy keeps its distance
_KEEP_AWAY = {Strategy.STRATEGY_TYPICLUST, Strategy.STRATEGY_K_CENTER}
_SHORTLIST_SEED = 0x9D3B_58C1_72E6_4FA7


def check_batch(question: Question, sample_count: int, sample_size: int) -> None:
    """Raise LimitExceeded if choosing the batch would take too long or too much memory.

    Args:
        sample_count: samples in the pool.
        sample_size: values in a sample.
    """
    free = sample_count - question.leave_out.range_cardinality(0, sample_count)
    asked = min(question.limit or free, free)
    most = min(TOGETHER_MAX, TOGETHER_VALUES_MAX // (TOGETHER_AT_LEAST * sample_size))
    if asked > most:
        message = (
            f"{asked} samples of {sample_size} values are too many to be chosen together: ask for at most {most}, "
            "or by a strategy that looks at each by itself"
        )
        raise LimitExceeded("BATCH_TOO_LARGE", message, field="limit", asked=asked, most=most)


def rank_together(parts: Sequence[Part], question: Question) -> Ranking:
    """Rank a batch in the order in which its samples are chosen, out of ``parts`` in memory.

    A ``limit`` of 0, or of more than there are, ranks all. How many samples each strategy looks at is limited by
    :data:`scorer_svc.strategies.registry.CANDIDATES_MAX` and the memory that they take.
    """
    size = int(np.prod(parts[0].samples.shape[1:]))
    near = rank(parts, first_pass(question, size))
    if question.strategy == Strategy.STRATEGY_POWER_MARGIN:
        return perturbed(near, question)
    ids = np.sort(near.sample_ids)
    seen = seen_ids(question, parts[0].first, parts[-1].end, size)
    return chosen(ids, samples_of(parts, ids), samples_of(parts, seen), question)


def first_pass(question: Question, sample_size: int) -> Question:
    """Return the question that shortlists what the strategy looks at, of ``sample_size`` values: all samples, or some.

    A random shortlist is drawn with a seed of its own, so that it is no likelier to hold what STRATEGY_RANDOM draws
    with the same seed.
    """
    clustered, limit = question.strategy == Strategy.STRATEGY_CLUSTERED_MARGIN, question.limit
    if question.strategy == Strategy.STRATEGY_POWER_MARGIN:
        return replace(question, strategy=Strategy.STRATEGY_MARGIN, limit=0)
    wanted = _TO_SPREAD * limit if clustered else CANDIDATES_MAX
    shortlist = max(min(wanted, _room(sample_size)), TOGETHER_AT_LEAST * limit) if limit else 0
    if clustered:
        return replace(question, strategy=Strategy.STRATEGY_MARGIN, limit=shortlist)
    seed = question.seed ^ _SHORTLIST_SEED
    return replace(question, strategy=Strategy.STRATEGY_RANDOM, limit=shortlist, seed=seed, model=None)


def _room(sample_size: int) -> int:
    """Return how many samples may be held at once."""
    return TOGETHER_VALUES_MAX // sample_size


def chosen(ids: Ids, samples: NDArray[Any], seen: NDArray[Any], question: Question) -> Ranking:
    """Choose the batch among the samples ``[n, *shape]`` with the ascending ``ids``.

    ``seen`` are those of :func:`seen_ids`.
    """
    candidates = Candidates(
        ids=ids,
        values=values_of(samples),
        probabilities=question.model.probabilities(samples) if question.model and len(ids) else None,
        chosen=values_of(seen),
    )
    del samples, seen
    at, score = choose(question.strategy, candidates, min(question.limit or len(ids), len(ids)), question.seed)
    if candidates.probabilities is None:
        return Ranking(ids[at], np.empty(0, np.int64), np.empty(0, np.float32), score)
    rows = candidates.probabilities[at]
    return Ranking(ids[at], rows.argmax(axis=1), rows.max(axis=1), score)


def perturbed(whole: Ranking, question: Question) -> Ranking:
    """Return the batch of STRATEGY_POWER_MARGIN out of the ranking of all samples by margin."""
    score = power_scores(whole.sample_ids, whole.score, question.seed)
    first = best_first(whole.sample_ids, score, question.limit)
    return Ranking(whole.sample_ids[first], whole.predicted[first], whole.confidence[first], score[first])


def seen_ids(question: Question, first: int, end: int, sample_size: int) -> Ids:
    """Return the samples from ``first`` to ``end`` that were chosen before, for strategies that keep away from them.

    If there are too many, those with the highest ids are returned.
    """
    if question.strategy not in _KEEP_AWAY:
        return np.empty(0, np.uint32)
    held = BitMap()
    held.add_range(first, end)
    return np.asarray((question.leave_out & held).to_array(), np.uint32)[-min(_SEEN_MAX, _room(sample_size)) :]


def samples_of(parts: Sequence[Part], ids: Ids) -> NDArray[Any]:
    """Return samples ``[n, *shape]`` by ascending ids, all of which lie in ``parts``."""
    inside = [(part, ids[(ids >= part.first) & (ids < part.end)]) for part in parts]
    picked = [part.samples[here - part.first] for part, here in inside if len(here)]
    if len(picked) == 1:
        return picked[0]
    return np.concatenate(picked or [parts[0].samples[:0]])


def values_of(samples: NDArray[Any]) -> NDArray[np.float32]:
    """Convert samples ``[n, *shape]`` to float32 ``[n, values]``, with pixels scaled by 1/255."""
    flat: NDArray[np.float32] = samples.reshape(len(samples), int(np.prod(samples.shape[1:])))
    flat = flat.astype(np.float32, copy=False)
    if samples.dtype == np.uint8:
        flat /= 255
    return flat
