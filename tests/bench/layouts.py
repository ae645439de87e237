"""Benchmarks: the same samples in every layout and scale, and tables with and without a column of time stamps.

Each loop learns features as the scorer does, without labels, chooses batches by margin after a random first one, and
fits the honest protocol's model. It runs in process, so that all layouts see the same seeds.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from labelloop.domain.sample_layout import layout_of
from labelloop.events.v1.events_pb2 import SampleKind, SampleLayout
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_digits, load_wine

from scorer_svc.features.patches import learn_patches
from scorer_svc.features.standardized import learn_standardized
from scorer_svc.models.graph import Graph
from scorer_svc.models.ort_session import share_memory
from tests.bench.article import mnist
from trainer_svc.model.regression import AS_THEY_VARY, EVENLY, fit_regression

_SEEDS = 10
_MNIST_POOL, _MNIST_LABELS, _MNIST_TEST = 2_000, 150, 2_000
_DIGITS_LABELS, _TABLE_LABELS, _TESTED = 200, 80, 0.3
_BATCH = 10
_WITHIN = 0.005
_DIGITS_MIN = 0.99
_TABLES_MIN = {"wine": 0.955, "breast cancer": 0.965}

Samples = NDArray[Any]
Labels = NDArray[np.int64]


async def same_pictures() -> dict[str, Any]:
    """Measure the accuracy on MNIST in five layouts, and on scikit-learn's digits in two."""
    share_memory()
    seeds = range(int(os.environ.get("SEEDS", "3")))
    found = {name: _mean_of_mnist(change, seeds) for name, change in _layouts().items()}
    digits = {name: _mean_of_digits(samples, seeds) for name, samples in _digits().items()}
    spread = max(found.values()) - min(found.values())
    return {
        "value": spread * 100,
        "unit": f"points between the best and the worst of five layouts at {_MNIST_LABELS} labels",
        "target": f"at most {_WITHIN * 100}; digits {_DIGITS_MIN:.0%} at {_DIGITS_LABELS} labels",
        "met": spread <= _WITHIN and min(digits.values()) >= _DIGITS_MIN,
        "detail": {"seeds": len(seeds), "mnist": found, "digits": digits},
    }


async def tables_with_time_stamps() -> dict[str, Any]:
    """Measure the accuracy on wine and breast cancer: raw, standardised, and both with a time stamp added."""
    share_memory()
    found: dict[str, dict[str, float]] = {}
    for name, (samples, labels) in _tables().items():
        standardized = _standardized(samples)
        found[name] = {
            "raw": _mean(samples, labels, _TABLE_LABELS, AS_THEY_VARY),
            "standardized": _mean(standardized, labels, _TABLE_LABELS, EVENLY),
        }
    short = {name: _TABLES_MIN[name.split(" +")[0]] - each["standardized"] for name, each in found.items()}
    return {
        "value": max(short.values()) * 100,
        "unit": f"points that the worst table lacks at {_TABLE_LABELS} labels",
        "target": "0: wine 0.955 and breast cancer 0.965, with a time stamp too",
        "met": max(short.values()) <= 0,
        "detail": {"seeds": _SEEDS, **found},
    }


def _layouts() -> Mapping[str, Callable[[Samples], Samples]]:
    return {
        "bytes [28, 28]": lambda samples: samples,
        "bytes [28, 28, 1]": lambda samples: samples[..., None],
        "bytes [1, 28, 28]": lambda samples: samples[:, None],
        "float32 [28, 28] from 0 to 1": lambda samples: samples.astype(np.float32) / 255,
        "bytes [784]": lambda samples: samples.reshape(len(samples), -1),
    }


def _mean_of_mnist(change: Callable[[Samples], Samples], seeds: range) -> float:
    data = mnist()
    assert data.labels is not None
    assert data.evaluation_samples is not None
    assert data.evaluation_labels is not None
    pool, test = change(data.samples[:_MNIST_POOL]), change(data.evaluation_samples[:_MNIST_TEST])
    features = _patches(pool, np.concatenate([pool, test]))
    labels = np.concatenate([data.labels[:_MNIST_POOL], data.evaluation_labels[:_MNIST_TEST]]).astype(np.int64)
    tested = np.arange(len(labels)) >= _MNIST_POOL
    return float(np.mean([_loop(features, labels, tested, _MNIST_LABELS, seed, EVENLY) for seed in seeds]))


def _digits() -> dict[str, Samples]:
    digits = load_digits()
    return {"data [64]": digits.data.astype(np.float32), "images [8, 8]": digits.images.astype(np.float32)}


def _mean_of_digits(samples: Samples, seeds: range) -> float:
    """Return the mean accuracy over the whole pool, which the features are learned from."""
    features, labels = _patches(samples, samples), load_digits().target.astype(np.int64)
    unlabelled = np.zeros(len(labels), bool)
    return float(np.mean([_loop(features, labels, unlabelled, _DIGITS_LABELS, seed, EVENLY) for seed in seeds]))


def _tables() -> dict[str, tuple[Samples, Labels]]:
    made = {}
    for name, table in (("wine", load_wine()), ("breast cancer", load_breast_cancer())):
        stamps = 1_700_000_000 + np.random.default_rng(0).integers(0, 3 * 10**7, len(table.data))
        for added, samples in (("", table.data), (" + time stamp", np.column_stack([table.data, stamps]))):
            made[name + added] = samples.astype(np.float32), table.target.astype(np.int64)
    return made


def _patches(pool: Samples, samples: Samples) -> NDArray[np.float32]:
    layout, _ = layout_of(pool)
    return Graph(learn_patches(pool, 0, layout), "patches", field="").answers(samples)


def _standardized(samples: Samples) -> NDArray[np.float32]:
    layout = SampleLayout(kind=SampleKind.SAMPLE_KIND_VECTOR)
    return Graph(learn_standardized(samples, layout), "standardized", field="").answers(samples)


def _mean(features: Samples, labels: Labels, budget: int, powers: tuple[float, ...]) -> float:
    found = []
    for seed in range(_SEEDS):
        tested = np.zeros(len(labels), bool)
        tested[np.random.default_rng(seed).permutation(len(labels))[: int(_TESTED * len(labels))]] = True
        found.append(_loop(features, labels, tested, budget, seed, powers))
    return float(np.mean(found))


def _loop(
    features: Samples, labels: Labels, tested: NDArray[np.bool_], budget: int, seed: int, powers: tuple[float, ...]
) -> float:
    """Label ``budget`` samples that are not ``tested``; return the accuracy on those, or on all if none are."""
    rng, classes = np.random.default_rng(seed), int(labels.max()) + 1
    with_bias = torch.from_numpy(np.column_stack([features, np.ones(len(features))]).astype(np.float32))
    known, free = torch.from_numpy(labels), rng.permutation(np.flatnonzero(~tested))
    asked = list(free[: 2 * _BATCH])
    while True:
        weights = fit_regression(with_bias[asked], known[asked], classes, seed=seed, powers=powers).weights
        if len(asked) >= budget:
            break
        rest = np.setdiff1d(free, asked)
        two = torch.softmax(with_bias[rest] @ weights.T, 1).topk(2).values
        order = np.argsort((two[:, 0] - two[:, 1]).numpy(), kind="stable")
        asked += list(rest[order[: min(_BATCH, budget - len(asked))]])
    judged = tested if tested.any() else np.ones(len(labels), bool)
    right = (with_bias[judged] @ weights.T).argmax(1) == known[judged]
    return float(right.double().mean())
