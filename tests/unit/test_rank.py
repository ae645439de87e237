"""Rankings equal those of a plain scan: the same samples, order and numbers, bit for bit."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise, repeat

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labelloop.errors import InvalidInput
from labelloop.scorer.v1.scorer_pb2 import Strategy
from numpy.typing import NDArray
from pyroaring import BitMap

from scorer_svc.models.model import Model
from scorer_svc.pools.part import Part
from scorer_svc.prefilter.integer_kernel import Kernel, Unavailable
from scorer_svc.prefilter.kernel_choice import PrefilterFactory
from scorer_svc.prefilter.prefilter import Screen
from scorer_svc.ranking.pieces import cut
from scorer_svc.ranking.rank import Question, Ranking, check, merge, rank
from scorer_svc.strategies.uncertainty import BY_ID, BY_MODEL
from tests.examples import examples
from tests.unit.kernels import numpy_kernels
from trainer_svc.model.onnx_export import to_onnx

FEATURES = 12


def weights(seed: int, classes: int, size: float) -> NDArray[np.float32]:
    """``[classes, FEATURES + 1]``."""
    return np.random.default_rng(seed).normal(0, size, (classes, FEATURES + 1)).astype(np.float32)


def no_kernel(features: int, classes: int) -> list[Kernel]:
    raise Unavailable("this processor is unknown")


SCREENINGS = {
    "llvmlite": PrefilterFactory(),
    "numpy": PrefilterFactory(numpy_kernels, lambda: True),
    "not installed": PrefilterFactory(installed=lambda: False),
    "broken": PrefilterFactory(no_kernel, lambda: True),
}


def model(of: NDArray[np.float32], dtype: str = "uint8", prefilters: str = "numpy") -> Model:
    return Model(to_onnx(of, dtype), "m", SCREENINGS[prefilters])


def pool(seed: int, count: int, kinds: int) -> NDArray[np.uint8]:
    """``count`` samples drawn from ``kinds`` different ones: few kinds make many ties."""
    chance = np.random.default_rng(seed)
    different = chance.integers(0, 256, (kinds, FEATURES)).astype(np.uint8)
    return different[chance.integers(0, kinds, count)]


def plain(samples: NDArray[np.uint8], question: Question) -> Ranking:
    """Score every sample by the model, and sort all."""
    ids = np.setdiff1d(np.arange(len(samples)), np.asarray(question.leave_out)).astype(np.uint32)
    assert question.model is not None
    probabilities = question.model.probabilities(samples)[ids]
    by_id = BY_ID.get(question.strategy)
    scores = by_id(ids, question.seed) if by_id else BY_MODEL[question.strategy](probabilities)
    first = np.lexsort((ids, scores))[: question.limit or None]
    chosen = probabilities[first]
    return Ranking(ids[first], chosen.argmax(axis=1), chosen.max(axis=1), scores[first])


def assert_same(one: Ranking, other: Ranking) -> None:
    for name in ("sample_ids", "predicted", "confidence", "score"):
        assert np.array_equal(getattr(one, name), getattr(other, name), equal_nan=True), name


def parts(samples: NDArray[np.uint8], bounds: list[int]) -> list[Part]:
    edges = [0, *sorted(bounds), len(samples)]
    return [Part(start, samples[start:end]) for start, end in pairwise(edges) if start < end]


@given(
    strategy=st.sampled_from([*BY_MODEL, *BY_ID]),
    seed=st.integers(0, 10**6),
    count=st.integers(1, 600),
    kinds=st.sampled_from([1, 2, 20, 600]),
    classes=st.integers(2, 11),
    size=st.sampled_from([0.0, 0.01, 0.3, 2.0, 50.0, 1e6, np.inf]),  # from all equal to saturated to not finite
    limit=st.one_of(st.sampled_from([0, 1, 10]), st.integers(1, 700)),
    left_out=st.sampled_from([0.0, 0.1, 0.99, 1.0]),
    bounds=st.lists(st.integers(0, 600), max_size=6),
    prefilters=st.sampled_from(sorted(SCREENINGS)),
)
@settings(max_examples=examples(100), deadline=None)
def test_rankings_equal_a_plain_scan_however_the_pool_is_cut(
    strategy: Strategy.ValueType,
    seed: int,
    count: int,
    kinds: int,
    classes: int,
    size: float,
    limit: int,
    left_out: float,
    bounds: list[int],
    prefilters: str,
) -> None:
    samples = pool(seed, count, kinds)
    leave_out = BitMap(np.flatnonzero(np.random.default_rng(seed).random(count) < left_out).tolist())
    with np.errstate(invalid="ignore"):
        question = Question(
            strategy, limit, leave_out, seed, model(weights(seed, classes, size), prefilters=prefilters)
        )
    with np.errstate(all="ignore"):
        expected = plain(samples, question)
        assert_same(rank([Part(0, samples)], question), expected)
        cut_up = parts(samples, [bound for bound in bounds if bound < count])
        assert_same(rank(cut_up, question), expected)
        assert_same(merge([rank([part], question) for part in cut_up], limit), expected)


@pytest.mark.parametrize("shards", [1, 2, 3, 7])
@pytest.mark.parametrize(
    ("threads", "prefilters"), [(1, "llvmlite"), (2, "numpy"), (3, "not installed"), (5, "llvmlite")]
)
def test_threads_and_shards_change_no_ranking(shards: int, threads: int, prefilters: str) -> None:
    samples, scorer = pool(0, 70_000, 60_000), model(weights(1, 10, 0.5), prefilters=prefilters)
    question = Question(Strategy.STRATEGY_MARGIN, 25, BitMap(range(0, 70_000, 3)), 0, scorer)
    pieces = cut(parts(samples, [70_000 * shard // shards for shard in range(1, shards)]), threads)
    with ThreadPoolExecutor(threads) as executor:
        answer = merge(list(executor.map(rank, pieces, repeat(question))), question.limit)
    assert_same(answer, plain(samples, question))


def test_prefilter_saves_the_model_most_of_a_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = pool(0, 5_000, 5_000)
    question = Question(Strategy.STRATEGY_MARGIN, 10, model=model(weights(0, 10, 0.5)))
    scored: list[int] = []
    plainly = Model.probabilities

    def counted(self: Model, rows: NDArray[np.uint8]) -> NDArray[np.float32]:
        scored.append(len(rows))
        return plainly(self, rows)

    monkeypatch.setattr(Model, "probabilities", counted)
    rank([Part(0, samples)], question)
    assert len(scored) == 1
    assert scored[0] < 256


def test_prefilter_that_excludes_no_sample_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    alike = [Part(start, np.zeros((400, FEATURES), np.uint8)) for start in range(0, 2_000, 400)]
    question = Question(Strategy.STRATEGY_LEAST_CONFIDENCE, 3, model=model(weights(0, 10, 0.5)))
    screened: list[int] = []
    plainly = Screen.lowest

    def counted(self: Screen, *rest: object) -> NDArray[np.float32]:
        screened.append(self.weight_bits)
        return plainly(self, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Screen, "lowest", counted)
    assert list(rank(alike, question).sample_ids) == [0, 1, 2]
    assert screened == [8, 16]


def test_pool_of_floats_has_no_prefilter() -> None:
    assert model(weights(0, 3, 1), "float32").prefilter is None


@given(st.lists(st.integers(1, 50_000), min_size=1, max_size=8), st.integers(1, 7))
def test_pieces_hold_every_sample_once_and_in_order(sizes: list[int], pieces: int) -> None:
    ends = np.cumsum(sizes)
    samples = np.arange(ends[-1], dtype=np.uint32).astype(np.float32)
    whole = [Part(int(end - size), samples[end - size : end]) for size, end in zip(sizes, ends, strict=True)]
    found = cut(whole, pieces)
    assert len(found) <= pieces
    assert all(part.first == part.samples[0] for piece in found for part in piece)
    assert np.array_equal(np.concatenate([part.samples for piece in found for part in piece]), samples)


def test_probabilities_do_not_depend_on_neighbouring_samples() -> None:
    samples, scorer = pool(1, 2_500, 2_500), model(weights(0, 3, 2))
    whole = scorer.probabilities(samples)
    assert np.array_equal(scorer.probabilities(samples[:1]), whole[:1])
    assert np.array_equal(scorer.probabilities(samples[1_000:1_700]), whole[1_000:1_700])


def test_invalid_questions_are_refused() -> None:
    good = Question(Strategy.STRATEGY_MARGIN, 2, model=model(weights(0, 3, 1)))
    check(good, FEATURES)
    for question, size in (
        (replace(good, model=None), FEATURES),
        (replace(good, strategy=Strategy.STRATEGY_UNSPECIFIED), FEATURES),
        (good, 7),
    ):
        with pytest.raises(InvalidInput):
            check(question, size)
