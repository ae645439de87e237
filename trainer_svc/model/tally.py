"""Count correct predictions by class. No I/O."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from trainer_svc.model.adam_softmax import Count


@dataclass(frozen=True, eq=False)
class Tally:
    """Correct predictions and samples by class, both ``[classes]``."""

    correct: NDArray[np.int64]
    total: NDArray[np.int64]

    @property
    def count(self) -> Count:
        return Count(int(self.correct.sum()), int(self.total.sum()))

    @property
    def most_frequent(self) -> int:
        """Number of samples of the most frequent class, which always guessing that class would predict correctly."""
        return int(self.total.max(initial=0))

    @property
    def balanced(self) -> float:
        """Balanced accuracy: mean recall over the classes that occur, in [0, 1]; 0 without samples."""
        occur = self.total > 0
        return float((self.correct[occur] / self.total[occur]).mean()) if occur.any() else 0.0


NOTHING = Tally(np.zeros(0, np.int64), np.zeros(0, np.int64))


def tally(predicted: NDArray[np.integer], labels: NDArray[np.integer], class_count: int) -> Tally:
    """Count the samples ``[n]`` of each class, and those whose predicted class ``[n]``, -1 for none, is their own."""
    right = labels[predicted == labels]
    return Tally(np.bincount(right, minlength=class_count), np.bincount(labels, minlength=class_count))


def tally_largest(logits: Tensor, labels: Tensor) -> Tally:
    """Count the samples of each class, and those whose largest logit of ``[classes, n]``, the first of ties, is its."""
    largest = logits.numpy().argmax(axis=0)  # PyTorch takes five times as long along this axis
    return tally(largest, labels.numpy(), len(logits))
