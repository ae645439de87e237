"""The article's loop as in a notebook: plain PyTorch with autograd, in one process."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

RATE, BETA1, BETA2, EPSILON, PATIENCE = 0.1, 0.9, 0.999, 1e-8, 10
BATCH, BUDGET = 10, 400


class Notebook:
    """``pool`` and ``test`` are pixels in [0, 1], ``[n, 784]`` float32; labels are ``[n]``."""

    def __init__(self, pool: Tensor, labels: Tensor, test: Tensor, test_labels: Tensor) -> None:
        self.pool, self.labels, self.test, self.test_labels = pool, labels, test, test_labels
        self.parameters = [torch.zeros(784, 10, requires_grad=True), torch.zeros(10, requires_grad=True)]
        self.first = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.second = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.step = 0

    def logits(self, samples: Tensor) -> Tensor:
        weights, bias = self.parameters
        return samples @ weights + bias

    def accuracy(self) -> float:
        with torch.no_grad():
            return (self.logits(self.test).argmax(1) == self.test_labels).float().mean().item()

    def take_step(self, samples: Tensor, labels: Tensor) -> None:
        for parameter in self.parameters:
            parameter.grad = None
        torch.nn.functional.cross_entropy(self.logits(samples), labels).backward()  # type: ignore[no-untyped-call]
        self.step += 1
        rate = RATE * (1 - BETA2**self.step) ** 0.5 / (1 - BETA1**self.step)
        with torch.no_grad():
            for parameter, first, second in zip(self.parameters, self.first, self.second, strict=True):
                gradient = parameter.grad
                assert gradient is not None
                first.mul_(BETA1).add_(gradient, alpha=1 - BETA1)
                second.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
                parameter -= rate * first / (second.sqrt() + EPSILON)

    def fit(self, samples: Tensor, labels: Tensor) -> None:
        best, best_parameters, since_best = -1.0, self.parameters, 0
        while since_best < PATIENCE:
            self.take_step(samples, labels)
            accuracy = self.accuracy()
            since_best += 1
            if accuracy > best:
                best, since_best = accuracy, 0
                best_parameters = [parameter.detach().clone() for parameter in self.parameters]
        with torch.no_grad():
            for parameter, kept in zip(self.parameters, best_parameters, strict=True):
                parameter.copy_(kept)

    def confidence(self) -> tuple[NDArray[Any], NDArray[Any]]:
        with torch.no_grad():
            probabilities = torch.softmax(self.logits(self.pool), 1)
        confidence, predicted = probabilities.max(1)
        return confidence.numpy(), predicted.numpy()

    def run(self) -> tuple[float, float]:
        """Run active_400, then auto_confident; return the final accuracy of each."""
        chosen = list(range(BATCH))
        given = self.labels[chosen]
        while True:
            self.fit(self.pool[chosen], given)
            if len(chosen) == BUDGET:
                break
            chosen += self._first(self.confidence()[0], chosen)
            given = self.labels[chosen]
        active = self.accuracy()
        while len(chosen) < len(self.pool):
            confidence, predicted = self.confidence()
            surest = self._first(-confidence, chosen)
            chosen += surest
            given = torch.cat([given, torch.from_numpy(predicted[surest])])
            self.fit(self.pool[chosen], given)
        return active, self.accuracy()

    def _first(self, scores: NDArray[Any], taken: list[int]) -> list[int]:
        scores = scores.copy()
        scores[taken] = np.inf
        return [int(i) for i in np.argsort(scores, kind="stable")[:BATCH]]


def seconds(pool: NDArray[np.uint8], labels: NDArray[Any], test: NDArray[np.uint8], test_labels: NDArray[Any]) -> float:
    """Return the wall time of the 400 rounds, with the data in memory and PyTorch untuned, on all cores."""
    notebook = Notebook(
        torch.from_numpy(pool.reshape(len(pool), -1).astype(np.float32) / 255),
        torch.from_numpy(labels.astype(np.int64)),
        torch.from_numpy(test.reshape(len(test), -1).astype(np.float32) / 255),
        torch.from_numpy(test_labels.astype(np.int64)),
    )
    begin = time.perf_counter()
    notebook.run()
    return time.perf_counter() - begin
