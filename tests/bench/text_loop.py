"""A run's loop on learned features of texts, in this process: the product's features, strategies and honest fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from labelloop.domain.strategies import CHOOSE_TOGETHER
from labelloop.scorer.v1.scorer_pb2 import Strategy
from numpy.typing import NDArray
from pyroaring import BitMap

from scorer_svc.features.texts import learn_texts
from scorer_svc.models.graph import Graph
from scorer_svc.models.model import Model
from scorer_svc.pools.part import Part
from scorer_svc.ranking.batch import rank_together
from scorer_svc.ranking.rank import Question, rank
from tests.bench.peers.strategy_data import AT, BATCH, FIRST_BATCH, Asked, StrategyData
from tests.bench.text_sets import TextSet
from tests.study.plan import RANDOM
from trainer_svc.domain.seeds import seed_for
from trainer_svc.model.adam_softmax import count_correct, with_bias
from trainer_svc.model.onnx_export import to_onnx
from trainer_svc.model.regression import fit_regression

POOL, HELD_OUT = 4_000, 2_000  # each seed draws its own; a third is held out


def save_features(path: Path, texts: TextSet, seed: int) -> None:
    """Save what :class:`StrategyData` reads: features that are learned from the seed's pool, without labels."""
    drawn = np.random.default_rng(seed).permutation(len(texts.texts))[: POOL + HELD_OUT]
    pool, held_out = drawn[:POOL], drawn[POOL:]
    graph = Graph(learn_texts(texts.texts[pool].tolist(), seed), "texts", field="")
    draft = path.with_suffix(".draft.npz")
    np.savez(
        draft,
        pool=graph.answers(texts.texts[pool]),
        labels=texts.labels[pool],
        test=graph.answers(texts.texts[held_out]),
        test_labels=texts.labels[held_out],
    )
    draft.replace(path)


def loaded(path: Path) -> StrategyData:
    with np.load(path) as arrays:
        return StrategyData(**arrays)


def accuracies(data: StrategyData, strategy: str, seed: int) -> dict[int, float]:
    """Label as the trainer does, and return the accuracy on held-out texts at each number of labels in AT.

    The first batch is chosen by k-means, unless all are drawn at random. There are no control samples.
    """
    asked: Asked = []
    found: dict[int, float] = {}
    weights = None
    while len(asked) < max(AT):
        asked += _batch(data, strategy if weights is not None else _first(strategy), seed, asked, weights)
        weights = _fitted(data, asked, seed)
        if len(asked) in AT:
            found[len(asked)] = _accuracy(data, weights)
    return found


def with_our_fit(data: StrategyData, asked: Asked, seed: int) -> dict[int, float]:
    """Return the accuracy of our fit to the first samples of ``asked``, at each number of labels in AT."""
    return {labels: _accuracy(data, _fitted(data, asked[:labels], seed)) for labels in AT}


def _first(strategy: str) -> str:
    return RANDOM if strategy == RANDOM else "k-means"


def _batch(
    data: StrategyData, strategy: str, seed: int, asked: Asked, weights: NDArray[np.float32] | None
) -> list[int]:
    """Return the ids of the next batch. As in the trainer, random runs follow one order, others one for each round."""
    which = Strategy.Value(f"STRATEGY_{strategy.replace('-', '_').upper()}")
    round_ = 1 + (len(asked) - FIRST_BATCH) // BATCH if asked else 0
    question = Question(
        strategy=which,
        limit=BATCH if asked else FIRST_BATCH,
        leave_out=BitMap(asked),
        seed=seed if strategy == RANDOM else seed_for(seed, "batch", round_),
        model=None if weights is None else Model(to_onnx(weights, "float32"), "texts"),
    )
    choose = rank_together if which in CHOOSE_TOGETHER else rank
    ids: list[int] = choose([Part(0, data.pool)], question).sample_ids.tolist()
    return ids


def _fitted(data: StrategyData, asked: Asked, seed: int) -> NDArray[np.float32]:
    labels = torch.from_numpy(data.labels[asked])
    fitted = fit_regression(with_bias(data.pool[asked]), labels, data.class_count, seed=seed)
    return np.asarray(fitted.weights.numpy(), np.float32)


def _accuracy(data: StrategyData, weights: NDArray[np.float32]) -> float:
    count = count_correct(torch.from_numpy(weights), with_bias(data.test), torch.from_numpy(data.test_labels))
    return count.correct / count.total
