"""Benchmark: whether to standardise vectors, by the rule and by cross-validation on the first labels.

Each pool is fitted as it is and standardised, on labels drawn at random. The regret of a choice is what it falls short
of the better of the two, in points of accuracy, mean over seeds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from statistics import fmean
from typing import Any

import numpy as np
import torch
from labelloop.domain.value_scale import is_on_one_scale
from labelloop.errors import LabelloopError
from labelloop.events.v1.events_pb2 import SampleKind, SampleLayout
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.feature_extraction.text import TfidfVectorizer
from torch import Tensor

from scorer_svc.features.standardized import learn_standardized
from scorer_svc.features.texts import learn_texts
from scorer_svc.models.graph import Graph
from scorer_svc.models.ort_session import share_memory
from tests.bench.text_sets import TextSet, text_set
from trainer_svc.model.regression import AS_THEY_VARY, EVENLY, Regression, fit_regression

_SEEDS = 10
_FIRST, _LABELS = 50, 100  # labels of the first batch, and of the fit that is judged
_TEXTS, _TERMS = 3_000, 2_000
_REGRET_MAX = 1.0  # points
_RAW, _STANDARDIZED = "as they are", "standardised"

Samples = NDArray[np.float32]
Labels = NDArray[np.int64]
Pool = tuple[Samples, Labels]


async def scaling_by_rule() -> dict[str, Any]:
    """Measure the largest regret of the rule over pools of numbers, counts of words, pixels and embeddings."""
    share_memory()
    torch.set_num_threads(1)
    found, missing = {}, {}
    for name, load in _pools().items():
        try:
            samples, labels = await asyncio.to_thread(load)
        except LabelloopError as error:  # texts that are not to be had
            missing[name] = error.message
            continue
        found[name] = await asyncio.to_thread(_compared, samples, labels)
        print(f"{name}: {found[name]}", flush=True)
    worst = max(each["regret_of_rule"] for each in found.values())
    return {
        "value": worst,
        "unit": f"points that the rule's choice lacks at {_LABELS} labels, on the worst pool",
        "target": f"at most {_REGRET_MAX}",
        "met": worst <= _REGRET_MAX,
        "detail": {"seeds": _SEEDS, "first": _FIRST, "pools": found, "missing": missing},
    }


def _compared(samples: Samples, labels: Labels) -> dict[str, Any]:
    layout = SampleLayout(kind=SampleKind.SAMPLE_KIND_VECTOR)
    standardized = Graph(learn_standardized(samples, layout), "standardized", field="").answers(samples)
    kinds = {_RAW: (samples, AS_THEY_VARY), _STANDARDIZED: (standardized, EVENLY)}
    rule = _RAW if is_on_one_scale(samples) else _STANDARDIZED
    accuracy: dict[str, list[float]] = {name: [] for name in kinds}
    validated: list[str] = []
    for seed in range(_SEEDS):
        drawn = np.random.default_rng(seed).permutation(len(labels))
        tried: dict[str, float] = {}
        for name, (values, powers) in kinds.items():
            first = _fitted(values, labels, drawn[:_FIRST], seed, powers)
            tried[name] = first.held_out.correct / first.held_out.total
            fitted = _fitted(values, labels, drawn[:_LABELS], seed, powers)
            accuracy[name].append(_accuracy(fitted, values, labels, drawn[_LABELS:]))
        validated.append(max(kinds, key=lambda name: (tried[name], name == rule)))
    means = {name: 100 * fmean(each) for name, each in accuracy.items()}
    by_validation = 100 * fmean(accuracy[name][seed] for seed, name in enumerate(validated))
    best = max(means.values())
    return {
        **{name: round(mean, 2) for name, mean in means.items()},
        "rule": rule,
        "regret_of_rule": round(best - means[rule], 2),
        "regret_of_cross_validation": round(best - by_validation, 2),
        "seeds_in_which_cross_validation_agrees": validated.count(rule),
    }


def _with_bias(values: Samples) -> Tensor:
    return torch.from_numpy(np.column_stack([values, np.ones(len(values))]).astype(np.float32))


def _fitted(
    values: Samples, labels: Labels, rows: NDArray[np.intp], seed: int, powers: tuple[float, ...]
) -> Regression:
    classes = int(labels.max()) + 1
    return fit_regression(_with_bias(values[rows]), torch.from_numpy(labels[rows]), classes, seed=seed, powers=powers)


def _accuracy(fitted: Regression, values: Samples, labels: Labels, rows: NDArray[np.intp]) -> float:
    said = (_with_bias(values[rows]) @ fitted.weights.T).argmax(dim=1).numpy()
    return float((said == labels[rows]).mean())


def _pools() -> Mapping[str, Callable[[], Pool]]:
    return {
        "wine": lambda: _of_sklearn(load_wine()),
        "breast cancer": lambda: _of_sklearn(load_breast_cancer()),
        "digits as vectors": lambda: _of_sklearn(load_digits()),
        "TF-IDF of 20 Newsgroups": lambda: _tfidf("20newsgroups"),
        "TF-IDF of Reuters": lambda: _tfidf("reuters-r8"),
        "embeddings of Reuters": lambda: _embeddings("reuters-r8"),
    }


def _of_sklearn(table: Any) -> Pool:
    return table.data.astype(np.float32), table.target.astype(np.int64)


def _some(name: str) -> TextSet:
    texts = text_set(name)
    drawn = np.random.default_rng(0).permutation(len(texts.texts))[:_TEXTS]
    return TextSet(texts.texts[drawn], texts.labels[drawn], texts.classes)


def _tfidf(name: str) -> Pool:
    texts = _some(name)
    counts = TfidfVectorizer(max_features=_TERMS, sublinear_tf=True).fit_transform(texts.texts)
    return counts.toarray().astype(np.float32), texts.labels.astype(np.int64)


def _embeddings(name: str) -> Pool:
    """Return 300 values of each text, of which the first vary most, as principal components and embeddings do."""
    texts = _some(name)
    graph = Graph(learn_texts(texts.texts.tolist(), 0), "texts", field="")
    return graph.answers(texts.texts), texts.labels.astype(np.int64)
