"""Compare answers of a scorer under load with the right ones. Pure functions."""

from __future__ import annotations

from collections import Counter

import numpy as np
from google.protobuf.message import DecodeError
from labelloop.scorer.v1.scorer_pb2 import ScoreResponse
from numpy.typing import NDArray

from labelloop_cli.load.calls import Calls

TOLERANCE = 1e-4  # a server's processor may round differently


def wrong_scores(calls: Calls, answers: Counter[tuple[int, bytes]], right: NDArray[np.float32]) -> Counter[str]:
    """Count the answers to ``Score`` that have each fault, by the right ``[images, classes]`` probabilities."""
    faults: Counter[str] = Counter()
    for (index, data), count in answers.items():
        if fault := _fault(calls, index, data, right):
            faults[fault] += count
    return faults


def _fault(calls: Calls, index: int, data: bytes, right: NDArray[np.float32]) -> str:
    try:
        answer = ScoreResponse.FromString(data)
    except DecodeError:
        return "bytes that are no answer"
    if answer.model_sha256 != calls.model:
        return "another model than was asked for"
    if len(answer.predicted) != calls.images or len(answer.confidence) != calls.images:
        return "another number of images"
    rows = np.arange(calls.first[index], calls.first[index] + calls.images) % len(right)
    return disagreement(right[rows], answer.predicted, answer.confidence)


def disagreement(probabilities: NDArray[np.float32], predicted: object, confidence: object) -> str:
    """Return the fault of an answer, if any, by the right ``probabilities`` ``[n, classes]``."""
    classes, said = np.asarray(predicted, np.int64), np.asarray(confidence)
    if not (classes < probabilities.shape[1]).all():
        return "a class that there is not"
    largest = probabilities.max(axis=1)
    if (probabilities[np.arange(len(classes)), classes] < largest - TOLERANCE).any():
        return "another class"
    return "another confidence" if (np.abs(said - largest) > TOLERANCE).any() else ""
