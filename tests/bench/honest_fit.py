"""The honest fit against a straightforward one: PyTorch's L-BFGS and automatic differentiation on the same problem."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scorer_svc.features.patches import learn_patches
from scorer_svc.models.graph import Graph
from tests.bench.article import mnist
from trainer_svc.model.adam_softmax import settle_arithmetic, with_bias
from trainer_svc.model.regression import fit_regression

_POOL, _LABELS, _CLASSES, _SEEDS = 4_000, 400, 10, 5
_AT_ONCE = 500
_FOLDS, _STRENGTHS, _WORSE_MAX = 3, [10 ** (-power / 2) for power in range(6, 13)], 2  # as in the trainer
_GRADIENT_MIN, _STEPS_MAX = 3e-4, 200
_TARGET = 0.75


async def honest_fit() -> dict[str, Any]:
    """Processor time of the trainer's fit to 400 labels, over that of the plain one, in turn on one thread."""
    settle_arithmetic()
    dataset = mnist()
    assert dataset.labels is not None
    samples = np.asarray(dataset.samples[:_POOL])
    labels = torch.from_numpy(np.asarray(dataset.labels[:_POOL]).astype(np.int64))
    graph = Graph(learn_patches(samples, 0), "patches", field="")
    parts = [graph.answers(samples[start : start + _AT_ONCE]) for start in range(0, _POOL, _AT_ONCE)]
    found = {
        "pixels": _compared(with_bias(samples), labels),
        "features": _compared(with_bias(np.concatenate(parts)), labels),
    }
    ratio = max(each["ratio"] for each in found.values())
    return {
        "value": ratio,
        "unit": "processor time, trainer's fit / PyTorch's L-BFGS, the larger of pixels and features",
        "target": f"at most {_TARGET}",
        "met": ratio <= _TARGET and all(each["accuracy_lost"] <= 0.002 for each in found.values()),
        "detail": {**found, "labels": _LABELS, "seeds": _SEEDS, "dataset": dataset.description},
    }


def _compared(features: Tensor, labels: Tensor) -> dict[str, Any]:
    ratios, seconds, lost, penalties = [], [], [], []
    for seed in range(-1, _SEEDS):  # the first one warms up
        drawn = np.random.default_rng(max(seed, 0)).permutation(len(labels))
        given, others = torch.from_numpy(drawn[:_LABELS]), torch.from_numpy(drawn[_LABELS:])
        known = features[given], labels[given]
        ours_s, ours = _timed(lambda known=known: fit_regression(*known, _CLASSES, seed=0))  # type: ignore[misc]
        plain_s, (plain, strength) = _timed(lambda known=known: _plain_fit(*known))  # type: ignore[misc]
        if seed < 0:
            continue
        ours_right, plain_right = (
            float(((features[others] @ each.T).argmax(1) == labels[others]).double().mean())
            for each in (ours.weights, plain)
        )
        ratios.append(ours_s / plain_s)
        seconds.append(ours_s)
        lost.append(plain_right - ours_right)
        penalties.append(ours.l2 / strength)
    return {
        "ratio": float(np.median(ratios)),
        "ratios": ratios,
        "seconds": seconds,
        "accuracy_lost": float(np.mean(lost)),
        "penalties": penalties,
    }


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    begin = time.process_time()
    result = work()
    return time.process_time() - begin, result


def _plain_fit(features: Tensor, labels: Tensor) -> tuple[Tensor, float]:
    """Choose the penalty by cross-validation, fit with it, and return the weights and the penalty."""
    mean = features[:, :-1].double().mean(0)
    centred = torch.cat([features[:, :-1].double() - mean, torch.ones(len(labels), 1, dtype=torch.float64)], 1)
    unit = float((centred[:, :-1] ** 2).mean(0).sum())
    folds = torch.arange(len(labels)) % _FOLDS  # the labels come in random order
    nothing = torch.zeros(_CLASSES, centred.shape[1], dtype=torch.float64)
    weights, best, chosen, worse = [nothing] * _FOLDS, np.inf, 0.0, 0
    for strength in (each * unit for each in _STRENGTHS):
        losses = []
        for part in range(_FOLDS):
            kept, held = folds != part, folds == part
            weights[part] = _minimised(centred[kept], labels[kept], strength, weights[part])
            losses.append(torch.nn.functional.cross_entropy(centred[held] @ weights[part].T, labels[held]))
        loss = float(torch.stack(losses).mean())
        worse = 0 if loss < best else worse + 1
        if loss < best:
            best, chosen = loss, strength
        if worse == _WORSE_MAX:
            break
    found = _minimised(centred, labels, chosen, nothing)
    bias = found[:, -1] - found[:, :-1] @ mean
    return torch.cat([found[:, :-1], bias[:, None]], 1).float(), chosen


def _minimised(samples: Tensor, labels: Tensor, l2: float, start: Tensor) -> Tensor:
    weights = start.clone().requires_grad_()
    search = torch.optim.LBFGS(
        [weights],
        max_iter=_STEPS_MAX,
        history_size=10,
        tolerance_grad=_GRADIENT_MIN,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        search.zero_grad()
        found = torch.nn.functional.cross_entropy(samples @ weights.T, labels)
        found = found + l2 / 2 * (weights[:, :-1] ** 2).sum()
        found.backward()  # type: ignore[no-untyped-call]
        return found

    search.step(loss)  # type: ignore[no-untyped-call]
    return weights.detach()
