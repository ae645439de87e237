"""Merging rankings of parts of a pool."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from labelloop.errors import Corrupt
from labelloop.scorer.v1.scorer_pb2 import GetSamplesResponse, RankPoolResponse, RankPoolStreamResponse
from pyroaring import BitMap

from trainer_svc.scorers.columns import columns_of, merged, received
from trainer_svc.scorers.rank_merge import check_whole, merge, unpack

SHAPE = (2, 3)

pools = st.dictionaries(st.integers(0, 2**32 - 1), st.floats(width=32, allow_nan=False), max_size=30)


def ranking(scores: dict[int, float], limit: int, *, predicts: bool) -> RankPoolResponse:
    """The answer of a scorer that holds these samples."""
    best = sorted(scores, key=lambda sample_id: (scores[sample_id], sample_id))[: limit or None]
    samples = b"".join(bytes((sample_id + i) % 256 for i in range(6)) for sample_id in best)
    return RankPoolResponse(
        sample_ids=best,
        score=[scores[sample_id] for sample_id in best],
        predicted=[sample_id % 10 for sample_id in best] if predicts else [],
        confidence=[1 / (1 + sample_id) for sample_id in best] if predicts else [],
        samples=GetSamplesResponse(dtype="uint8", shape=SHAPE, samples=samples),
    )


@given(pools, st.integers(0, 12), st.integers(1, 5), st.booleans(), st.randoms(use_true_random=False))
def test_rankings_of_any_partition_merge_to_the_ranking_of_the_whole(
    scores: dict[int, float], limit: int, count: int, predicts: bool, chance: random.Random
) -> None:
    parts: list[dict[int, float]] = [{} for _ in range(count)]
    for sample_id, score in scores.items():
        chance.choice(parts)[sample_id] = score
    merged = merge([ranking(part, limit, predicts=predicts) for part in parts], limit)
    assert merged == ranking(scores, limit, predicts=predicts)


@given(pools, st.integers(1, 5), st.booleans(), st.randoms(use_true_random=False))
def test_columns_merge_as_answers_do(
    scores: dict[int, float], count: int, predicts: bool, chance: random.Random
) -> None:
    parts: list[dict[int, float]] = [{} for _ in range(count)]
    for sample_id, score in scores.items():
        chance.choice(parts)[sample_id] = score
    answers = [ranking(part, 0, predicts=predicts) for part in parts]
    found, expected = merged([columns_of(answer) for answer in answers]), merge(answers, 0)
    assert found.sample_ids.tolist() == list(expected.sample_ids)
    assert found.score.tolist() == list(expected.score)
    assert found.predicted.tolist() == list(expected.predicted)
    assert found.confidence.tolist() == list(expected.confidence)


def part_of(count: int, sample_count: int, predicted: int, confidence: int | None = None) -> RankPoolStreamResponse:
    """A part of a stream with arrays of these lengths."""
    return RankPoolStreamResponse(
        sample_count=sample_count,
        sample_ids=np.arange(count, dtype="<u4").tobytes(),
        score=np.zeros(count, "<f4").tobytes(),
        predicted=np.zeros(predicted, "<u4").tobytes(),
        confidence=np.zeros(predicted if confidence is None else confidence, "<f4").tobytes(),
    )


async def stream(parts: Sequence[RankPoolStreamResponse]) -> AsyncIterator[RankPoolStreamResponse]:
    for part in parts:
        yield part


@pytest.mark.parametrize(
    ("parts", "is_whole"),
    [
        ([part_of(2, 5, 2), part_of(3, 5, 3)], True),
        ([part_of(2, 5, 0), part_of(3, 5, 0)], True),
        ([part_of(0, 0, 0)], True),
        ([], False),
        ([part_of(2, 5, 2)], False),  # ended early
        ([part_of(3, 2, 3)], False),
        ([part_of(2, 2, 1)], False),
        ([part_of(2, 2, 2, confidence=0)], False),
        ([RankPoolStreamResponse(sample_count=1, sample_ids=b"abc", score=b"abcd")], False),
    ],
)
async def test_only_a_whole_stream_is_a_ranking(parts: list[RankPoolStreamResponse], is_whole: bool) -> None:
    if is_whole:
        assert len(await received(stream(parts))) == sum(len(part.sample_ids) // 4 for part in parts)
        return
    with pytest.raises(Corrupt) as caught:
        await received(stream(parts))
    assert caught.value.reason == "BAD_RANKING"


def test_equal_scores_are_ordered_by_sample_id() -> None:
    parts = [ranking({4: 0.5, 1: 0.5}, 0, predicts=True), ranking({3: 0.5, 2: -0.5}, 0, predicts=True)]
    assert list(merge(parts, 3).sample_ids) == [2, 1, 3]


def test_merged_rankings_have_samples_only_if_every_part_has() -> None:
    parts = [ranking({1: 0.0}, 0, predicts=True), ranking({2: 0.0}, 0, predicts=True)]
    assert unpack(merge(parts, 1).samples).shape == (1, *SHAPE)
    parts[1].ClearField("samples")
    assert not merge(parts, 1).HasField("samples")


@pytest.mark.parametrize(
    ("answered", "limit", "whole"),
    [
        ([7, 5], 2, True),
        ([5, 6, 7], 0, True),
        ([5, 6, 7], 9, True),
        ([7], 2, False),  # shorter
        ([5, 6], 0, False),
        ([5, 6, 7], 2, False),  # longer
        ([5, 4], 2, False),  # of another shard
        ([5, 5], 2, False),
    ],
)
def test_only_a_complete_ranking_of_the_requested_ids_passes(answered: list[int], limit: int, whole: bool) -> None:
    free = BitMap([5, 6, 7])
    if whole:
        check_whole(answered, free, limit)
    else:
        with pytest.raises(Corrupt) as caught:
            check_whole(answered, free, limit)
        assert caught.value.reason == "BAD_RANKING"
