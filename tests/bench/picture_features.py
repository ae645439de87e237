"""Benchmark: features of pictures against each other, in one process: learning, extraction, and accuracy by labels."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from labelloop.scorer.v1.scorer_pb2 import Strategy
from numpy.typing import NDArray
from pyroaring import BitMap

from oracle_svc.datasets import Dataset
from scorer_svc.features.patches import learn_patches
from scorer_svc.features.scattering import learn_scattering
from scorer_svc.models.graph import Graph
from scorer_svc.models.model import Model
from scorer_svc.models.ort_session import share_memory
from scorer_svc.pools.part import Part
from scorer_svc.ranking.batch import rank_together
from scorer_svc.ranking.rank import Question, rank
from tests.bench.article import mnist
from trainer_svc.domain.seeds import seed_for
from trainer_svc.model.adam_softmax import count_correct, with_bias
from trainer_svc.model.onnx_export import optional_columns, to_onnx
from trainer_svc.model.regression import fit_regression

_POOL, _TIMED, _TIMES = 4_000, 2_000, 3
_SEEDS = range(1, 6)
_FIRST, _BATCH, _AT = 50, 25, (50, 100, 200, 400)
_CLASSES = 10
_LEARN: dict[str, Callable[[NDArray[Any], int], bytes]] = {"patches": learn_patches, "scattering": learn_scattering}


async def picture_features() -> dict[str, Any]:
    """Measure scattering features against patches: seconds to learn, milliseconds of a core to extract, accuracy."""
    share_memory()
    data = mnist()
    samples = data.samples[:_POOL]
    graphs, learn_s = {}, {}
    for name, learn in _LEARN.items():
        begin = time.process_time()
        graphs[name] = learn(samples, 0)
        learn_s[name] = time.process_time() - begin
    opened = {name: Graph(graph, name, field="") for name, graph in graphs.items()}
    ms: dict[str, list[float]] = {name: [] for name in opened}
    for _ in range(_TIMES):  # in turn, so that what else the machine does slows down both
        for name, graph in opened.items():
            begin = time.process_time()
            graph.answers(samples[:_TIMED])
            ms[name].append(1_000 * (time.process_time() - begin) / _TIMED)
    detail = {
        name: {
            "learn_s": learn_s[name],
            "extract_ms": min(ms[name]),
            "graph_mb": len(graphs[name]) / 1e6,
            "columns": graph.answer_count,
            "accuracy": _accuracy(graph, graphs[name], data),
        }
        for name, graph in opened.items()
    }
    share = min(ms["scattering"]) / min(ms["patches"])
    return {
        "value": share,
        "unit": "times as long to extract scattering features as patches",
        "target": "at most 0.4",
        "met": share <= 0.4,
        "detail": detail,
    }


def _accuracy(graph: Graph, data: bytes, pool: Dataset) -> dict[int, float]:
    """Return accuracy on all test images by the number of labels that margin chose, means over seeds."""
    assert pool.labels is not None
    assert pool.evaluation_samples is not None
    assert pool.evaluation_labels is not None
    values = graph.answers(pool.samples[:_POOL])
    labels, truth = (torch.from_numpy(each.astype(np.int64)) for each in (pool.labels[:_POOL], pool.evaluation_labels))
    judged = with_bias(graph.answers(pool.evaluation_samples)), truth
    optional = optional_columns(data, values.shape[1])
    runs = [_run(values, labels, judged, optional, seed) for seed in _SEEDS]
    return {count: float(np.mean([run[count] for run in runs])) for count in _AT}


def _run(
    values: NDArray[np.float32],
    labels: torch.Tensor,
    judged: tuple[torch.Tensor, torch.Tensor],
    optional: int,
    seed: int,
) -> dict[int, float]:
    chosen, found, features, model = np.empty(0, np.int64), {}, with_bias(values), None
    while len(chosen) < max(_AT):
        asked = Question(
            Strategy.STRATEGY_MARGIN if model else Strategy.STRATEGY_K_MEANS,
            _BATCH if model else _FIRST,
            seed=seed_for(seed, "batch", len(chosen)),
            model=model,
            leave_out=BitMap(chosen.tolist()),
        )
        ranked = (rank if model else rank_together)([Part(0, values)], asked)
        chosen = np.concatenate([chosen, ranked.sample_ids])
        fitted = fit_regression(features[chosen], labels[chosen], _CLASSES, seed=seed, optional=optional)
        model = Model(to_onnx(fitted.weights.numpy(), "float32"), "m")
        if len(chosen) in _AT:
            right = count_correct(fitted.weights, *judged)
            found[len(chosen)] = 100 * right.correct / right.total
    return found
