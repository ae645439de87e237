"""Rank a pool by a strategy: shortlist each part, then merge the shortlists. Pure functions.

The best of the whole are among the best of each part, so parts may be ranked anywhere, in any order and on any number
of threads, and the order by (score, sample id) makes the result the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from labelloop.domain.abandonment import check_wanted
from labelloop.domain.strategies import CHOOSE_TOGETHER, NEED_NO_MODEL
from labelloop.errors import InvalidInput
from labelloop.scorer.v1.scorer_pb2 import Strategy
from numpy.typing import NDArray
from pyroaring import BitMap

from scorer_svc.models.model import Model
from scorer_svc.pools.part import Part
from scorer_svc.ranking.pieces import begun_small, free_positions, runs
from scorer_svc.ranking.screening import Screening
from scorer_svc.strategies.uncertainty import BY_ID, BY_MODEL, FLOORS, Ids, Scores, best_first

_AT_ONCE_SAMPLES, _AT_ONCE_LEAST = 4_000, 250
_FIRST_SAMPLES, _FIRST_LIMITS = 2_048, 64  # or that many times the limit
_TOGETHER = 256  # samples of several parts that are scored together: a run of the model takes as long for one


@dataclass(frozen=True)
class Question:
    """What to rank, and how.

    Attributes:
        limit: how many samples to return; 0 for all.
        leave_out: ids to exclude.
    """

    strategy: Strategy.ValueType
    limit: int = 0
    leave_out: BitMap = field(default_factory=BitMap)
    seed: int = 0
    model: Model | None = None


@dataclass(frozen=True)
class Ranking:
    """Ranked samples, best first, in arrays of one length.

    ``predicted`` and ``confidence`` are empty without a model.
    """

    sample_ids: Ids
    predicted: NDArray[np.int64]
    confidence: Scores
    score: Scores


def check(question: Question, sample_size: int) -> None:
    """Raise InvalidInput for an unknown strategy, a missing model, or a model for samples of another size."""
    strategy, model = question.strategy, question.model
    if strategy not in BY_MODEL and strategy not in BY_ID and strategy not in CHOOSE_TOGETHER:
        raise InvalidInput("UNKNOWN_STRATEGY", "name a strategy", field="strategy")
    if strategy not in NEED_NO_MODEL and model is None:
        message = f"{Strategy.Name(strategy)} ranks by a model's answers: name a model"
        raise InvalidInput("MODEL_MISSING", message, field="model_sha256", strategy=Strategy.Name(strategy))
    if model and model.feature_count != sample_size:
        message = (
            f"the model takes {model.feature_count} values a sample, but the pool's samples have {sample_size}: name "
            "the features that it was fitted to, if it was"
        )
        raise InvalidInput(
            "MODEL_DOES_NOT_FIT", message, field="model_sha256", takes=model.feature_count, has=sample_size
        )


def by_id(question: Question) -> bool:
    """Return whether the order depends on nothing but ids, so that no sample need be read to find it."""
    return question.strategy in BY_ID


def answers(model: Model, part: Part, sample_ids: Ids) -> tuple[NDArray[np.int64], Scores]:
    """Return the class that ``model`` predicts for samples of ``part`` in any order, and its probability, ``[n]`` each.

    They are those of a ranking: a sample's answer does not depend on the others.
    """
    order = np.argsort(sample_ids)
    predicted, confidence = np.empty(len(order), np.int64), np.empty(len(order), np.float32)
    for start in range(0, len(order), _AT_ONCE_SAMPLES):
        check_wanted()
        rows = order[start : start + _AT_ONCE_SAMPLES]
        found = _probabilities(model, part.samples, (sample_ids[rows] - part.first).astype(np.intp))
        predicted[rows], confidence[rows] = found.argmax(axis=1), found.max(axis=1)
    return predicted, confidence


def rank(parts: Sequence[Part], question: Question) -> Ranking:
    """Return the first ``limit`` of the samples of ``parts``."""
    if not question.limit:
        return _in_order(parts, question)
    best, screening = _NOTHING, _screening(question)
    pending: list[_Near] = []
    for part in begun_small(parts, max(_FIRST_SAMPLES, _FIRST_LIMITS * question.limit)):
        check_wanted()
        near = screening.hopeful(part, free_positions(part, question.leave_out), _last_score(best, question.limit))
        if len(near):
            pending.append(_Near(part, near))
        if sum(len(each.positions) for each in pending) > _TOGETHER:
            best, pending = _best(best, pending, question), []
            if _is_final(best, question):
                return best
    return _best(best, pending, question)


@dataclass(frozen=True)
class _Near:
    """Samples of a part that are to be scored by the model itself."""

    part: Part
    positions: NDArray[np.intp]


def _best(best: Ranking, pending: Sequence[_Near], question: Question) -> Ranking:
    """Return the first ``limit`` of ``best`` and of what is ``pending``, whose ids are higher."""
    if pending and question.strategy in BY_MODEL and sum(len(near.positions) for near in pending) <= _TOGETHER:
        return merge([best, _score_together(pending, question)], question.limit)
    for near in pending:
        for start, end in runs(len(near.positions), _AT_ONCE_LEAST, _AT_ONCE_SAMPLES):
            check_wanted()
            best = merge([best, _score(near.part, near.positions[start:end], question)], question.limit)
            if _is_final(best, question):
                return best
    return best


def _is_final(best: Ranking, question: Question) -> bool:
    """Return whether no sample with a higher id can come first, since no score is lower."""
    return _last_score(best, question.limit) <= FLOORS.get(question.strategy, -np.inf)


def _in_order(parts: Sequence[Part], question: Question) -> Ranking:
    """Rank all samples of ``parts``, with a single sort."""
    scored = [_NOTHING]
    for part in parts:
        free = free_positions(part, question.leave_out)
        starts = range(0, len(free), _AT_ONCE_SAMPLES)
        scored += [_score(part, free[start : start + _AT_ONCE_SAMPLES], question) for start in starts]
    return merge(scored, 0)


def merge(rankings: Sequence[Ranking], limit: int) -> Ranking:
    """Return the first ``limit`` of all ``rankings``, which must be of different samples."""
    ids, predicted, confidence, score = (
        np.concatenate(column)
        for column in zip(*((r.sample_ids, r.predicted, r.confidence, r.score) for r in rankings), strict=True)
    )
    first = best_first(ids, score, limit)
    known = first if len(predicted) else slice(0)
    return Ranking(ids[first], predicted[known], confidence[known], score[first])


def _last_score(best: Ranking, limit: int) -> float:
    """Return the score that a sample must not exceed to be among the first."""
    return float(best.score[-1]) if len(best.score) == limit else np.inf


def _screening(question: Question) -> Screening:
    """Return what excludes samples of one part after another."""
    prefilter = question.model.prefilter if question.model and question.strategy in BY_MODEL else None

    def last_score(part: Part, positions: NDArray[np.intp]) -> float:
        return _last_score(_score(part, positions, question), question.limit)

    return Screening(prefilter.screens if prefilter else (), question.strategy, question.limit, last_score)


def _score(part: Part, positions: NDArray[np.intp], question: Question) -> Ranking:
    """Score the samples at ``positions`` by the model itself, and return the first ``limit``."""
    ids = (part.first + positions).astype(np.uint32)
    if score := BY_ID.get(question.strategy):
        scores = score(ids, question.seed)
        first = best_first(ids, scores, question.limit)
        if question.model is None:
            return Ranking(ids[first], np.empty(0, np.int64), np.empty(0, np.float32), scores[first])
        rows = _probabilities(question.model, part.samples, positions[first])
        return Ranking(ids[first], rows.argmax(axis=1), rows.max(axis=1), scores[first])
    assert question.model is not None, "checked before"
    return _first(ids, _probabilities(question.model, part.samples, positions), question)


def _score_together(pending: Sequence[_Near], question: Question) -> Ranking:
    """Score a few samples of several parts with one call of the model, and return the first ``limit``."""
    assert question.model is not None, "checked before"
    ids = np.concatenate([each.part.first + each.positions for each in pending]).astype(np.uint32)
    samples = np.concatenate([each.part.samples[each.positions] for each in pending])
    return _first(ids, question.model.probabilities(samples), question)


def _first(ids: Ids, probabilities: NDArray[np.float32], question: Question) -> Ranking:
    """Return the first ``limit`` of samples by the model's probabilities ``[n, classes]``."""
    scores = BY_MODEL[question.strategy](probabilities)
    first = best_first(ids, scores, question.limit)
    rows = probabilities[first]
    return Ranking(ids[first], rows.argmax(axis=1), rows.max(axis=1), scores[first])


def _probabilities(model: Model, samples: NDArray[Any], positions: NDArray[np.intp]) -> NDArray[np.float32]:
    """Compute probabilities of the samples at ``positions``.

    If they are most of a contiguous range, all of it is computed: copying samples costs as much as scoring them.
    """
    start, end = int(positions[0]), int(positions[-1]) + 1
    if np.all(np.diff(positions) > 0) and 2 * len(positions) > end - start:
        return model.probabilities(samples[start:end])[positions - start]
    return model.probabilities(samples[positions])


_NOTHING = Ranking(np.empty(0, np.uint32), np.empty(0, np.int64), np.empty(0, np.float32), np.empty(0, np.float32))
