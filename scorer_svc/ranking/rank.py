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
from scorer_svc.prefilter.prefilter import Prefilter
from scorer_svc.strategies.uncertainty import BY_ID, BY_MODEL, FLOORS, Ids, Scores, best_first

_WORTH_SCREENING = 4  # a part must hold this many times the limit
_AT_ONCE_SAMPLES = 4_000
_CUT_SAMPLES = 10_000  # no piece is smaller than this, but the last


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


def cut(parts: Sequence[Part], pieces: int) -> list[list[Part]]:
    """Split parts into at most ``pieces`` lists of about equal length, none of which is short, but the last."""
    total = sum(len(part.samples) for part in parts)
    length = max(-(-total // pieces), _CUT_SAMPLES)
    lists: list[list[Part]] = [[]]
    room = length
    for part in parts:
        start = 0
        while start < len(part.samples):
            if not room:
                lists.append([])
                room = length
            end = min(start + room, len(part.samples))
            lists[-1].append(Part(part.first + start, part.samples[start:end]))
            room -= end - start
            start = end
    return lists


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
    best, prefilter = _NOTHING, question.model.prefilter if question.model and question.strategy in BY_MODEL else None
    for part in parts:
        check_wanted()
        near = free = _free(part, question.leave_out)
        if prefilter and len(free) > _WORTH_SCREENING * question.limit:
            near = _hopeful(part, free, question, prefilter, _last_score(best, question.limit))
            if len(near) > len(free) // 2:  # its estimates exclude too little
                prefilter = None
        for start in range(0, len(near), _AT_ONCE_SAMPLES):
            check_wanted()
            if _last_score(best, question.limit) <= FLOORS.get(question.strategy, -np.inf):
                return best  # no later sample can come first: no score is lower, and ids ascend
            best = merge([best, _score(part, near[start : start + _AT_ONCE_SAMPLES], question)], question.limit)
    return best


def _in_order(parts: Sequence[Part], question: Question) -> Ranking:
    """Rank all samples of ``parts``, with a single sort."""
    scored = [_NOTHING]
    for part in parts:
        free = _free(part, question.leave_out)
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


def _free(part: Part, leave_out: BitMap) -> NDArray[np.intp]:
    """Return the positions in the part of the samples that are not left out."""
    count = len(part.samples)
    taken = leave_out & BitMap(range(part.first, part.first + count))
    if not taken:
        return np.arange(count)
    free = np.ones(count, bool)
    free[np.asarray(taken.to_array()) - part.first] = False
    return np.flatnonzero(free)


def _last_score(best: Ranking, limit: int) -> float:
    """Return the score that a sample must not exceed to be among the first."""
    return float(best.score[-1]) if len(best.score) == limit else np.inf


def _hopeful(
    part: Part, free: NDArray[np.intp], question: Question, prefilter: Prefilter, bound: float
) -> NDArray[np.intp]:
    """Return those of ``free`` that may be among the first ``limit``, all of which score at most ``bound``.

    If the ``limit``-th lowest estimate is t, the ``limit``-th lowest score is at most what t can reach, so the estimate
    of a sample that scores as low is at most what that can reach in turn.
    """
    estimates = prefilter.estimates(part.samples, question.strategy)[free]
    last = float(np.partition(estimates, question.limit - 1)[question.limit - 1])
    lowest = min(prefilter.reach(question.strategy, last), bound)
    near: NDArray[np.intp] = free[estimates <= prefilter.reach(question.strategy, lowest)]
    return near


def _score(part: Part, positions: NDArray[np.intp], question: Question) -> Ranking:
    """Score the samples at ``positions`` by the model itself, and return the first ``limit``."""
    ids = (part.first + positions).astype(np.uint32)
    if score := BY_ID.get(question.strategy):
        scores = score(ids, question.seed)
        first = best_first(ids, scores, question.limit)
        rows = _probabilities(question.model, part.samples, positions[first]) if question.model else None
    else:
        assert question.model is not None, "checked before"
        probabilities = _probabilities(question.model, part.samples, positions)
        scores = BY_MODEL[question.strategy](probabilities)
        first = best_first(ids, scores, question.limit)
        rows = probabilities[first]
    if rows is None:
        return Ranking(ids[first], np.empty(0, np.int64), np.empty(0, np.float32), scores[first])
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
