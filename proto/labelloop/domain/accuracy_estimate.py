"""Decide what is known of a model's accuracy on the pool, and say it. Pure functions.

Every display of a run uses this estimate: the page, the lists, the report and what programs read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from labelloop.domain.proportion import Proportion
from labelloop.domain.statistics import GUESSING, tells_little
from labelloop.events.v1.events_pb2 import Accuracy

MeasuredOn = Literal["evaluation", "control", "stopping set"]
MEASURED_ON: tuple[MeasuredOn, ...] = get_args(MeasuredOn)


@dataclass(frozen=True)
class AccuracyEstimate:
    """What is known of a model's accuracy.

    Attributes:
        measured_on: The samples that it was measured on.
        share: How many of them the model has right.
        guessing: How many of them are of the most frequent class, where classes are so imbalanced that the accuracy
            tells little without it; else None.
    """

    measured_on: MeasuredOn
    share: Proportion
    guessing: Proportion | None = None

    def __str__(self) -> str:
        return self.text

    @property
    def name(self) -> str:
        total = self.share.total
        if self.measured_on == "control":
            return f"accuracy ({total:,} control sample{'' if total == 1 else 's'})"
        return f"accuracy ({'evaluation set' if self.measured_on == 'evaluation' else 'stopping set'}, n = {total:,})"

    @property
    def text(self) -> str:
        """The whole estimate, as part of a sentence."""
        interval = "" if self.share.only_range else f", 95 % interval {self.share.interval}"
        return f"{self.name} {self.share.headline}{self.beside}{interval}"

    @property
    def beside(self) -> str:
        """The majority baseline, to follow the headline; empty where classes are balanced."""
        if self.guessing is None:
            return ""
        value, digits = self.guessing.value, self.share.digits
        return f" ({self.guessing.headline if value is None else f'{100 * value:.{digits}f} %'} {GUESSING})"


def accuracy_estimate(
    evaluation: Accuracy, control: Accuracy, stopping: Accuracy, *, published: bool, class_count: int
) -> AccuracyEstimate | None:
    """Return the best estimate that a model's counts allow; None if they allow none.

    The evaluation set comes first, then the control samples, which were drawn at random from the pool. Without both,
    the published protocol has the samples that decided when to stop, which show it a little better than it is.

    In the honest protocol ``stopping`` counts a cross-validation on the labelled samples. Most of them were chosen for
    being hard, so it is no estimate for the pool.

    Args:
        class_count: Number of classes of the pool.
    """
    candidates: tuple[tuple[MeasuredOn, Accuracy], ...] = (("evaluation", evaluation), ("control", control))
    if published:
        candidates = (*candidates, ("stopping set", stopping))
    for measured_on, counts in candidates:
        if 0 < counts.total >= counts.correct:
            guessing = majority(counts.most_frequent, counts.total, class_count)
            return AccuracyEstimate(measured_on, Proportion(counts.correct, counts.total), guessing)
    return None


def majority(most_frequent: int, total: int, class_count: int) -> Proportion | None:
    """Return the majority baseline where classes are imbalanced, which few samples must show beyond chance."""
    share = Proportion(min(most_frequent, total), total)
    baseline = share.low if share.value is None else share.value
    return share if tells_little(baseline, class_count) else None
