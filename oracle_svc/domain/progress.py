"""Fold a run's events into the progress shown to its annotators. No I/O."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from labelloop.domain.accuracy_estimate import AccuracyEstimate, accuracy_estimate
from labelloop.domain.run_view import RunView
from labelloop.events.v1.events_pb2 import (
    Event,
    LabelProvided,
    LabelsRequested,
    ModelTrained,
    Protocol,
)

Phase = Literal["starting", "labelling", "training", "over"]


@dataclass(frozen=True)
class Point:
    """What is known of a model's accuracy.

    Attributes:
        labels: Number of labels that it was trained on.
        auto_labels: Number of auto-labels that it was trained on.
    """

    round: int
    labels: int
    auto_labels: int
    estimate: AccuracyEstimate


@dataclass(frozen=True)
class Sureness:
    """The model's mean and least confidence, in [0, 1], in one round's samples.

    Attributes:
        labels: Number of labels before the round.
    """

    round: int
    labels: int
    mean: float
    least: float


@dataclass(frozen=True)
class Prediction:
    """The model's prediction for a sample when it was requested.

    Attributes:
        confidence: In [0, 1].
    """

    label: int
    confidence: float


@dataclass(frozen=True)
class LastLabel:
    """The newest label.

    Attributes:
        prediction: The model's earlier prediction for the sample; None if there was none.
    """

    sample_id: int
    label: int
    annotator: str
    at: datetime
    prediction: Prediction | None

    @property
    def agreed(self) -> bool | None:
        return None if self.prediction is None else self.prediction.label == self.label


@dataclass(frozen=True)
class RoundChange:
    """Change in accuracy from the previous model measured on the same kind of samples to the newest one.

    Attributes:
        round: The last completed round.
        labels: Number of labels added between the two models.
    """

    round: int
    labels: int
    before: AccuracyEstimate
    after: AccuracyEstimate

    @property
    def gain_per_label(self) -> float | None:
        """Gain in accuracy per label, as a share; None unless the two intervals lie apart."""
        before, after = self.before.share, self.after.share
        if before.value is None or after.value is None or (before.low <= after.high and after.low <= before.high):
            return None
        return (after.value - before.value) / self.labels


@dataclass
class Progress(RunView):
    """A run's progress.

    Attributes:
        labels: Current labels by sample.
        predictions: Predictions for all requested samples.
        compared: Current labels whose sample had a prediction.
        agreed: Current labels that equal the prediction.
        batch_size: Number of samples in the newest request.
        points: One for each model whose accuracy can be estimated.
        accuracy: Estimate for the newest model; None if there is none.
        sureness: The model's confidence in each sample of the newest round, ascending.
    """

    labels: dict[int, int] = field(default_factory=dict)
    counts: Counter[int] = field(default_factory=Counter)
    predictions: dict[int, Prediction] = field(default_factory=dict)
    compared: int = 0
    agreed: int = 0
    batch_size: int = 0
    points: list[Point] = field(default_factory=list)
    accuracy: AccuracyEstimate | None = None
    batches: list[Sureness] = field(default_factory=list)
    sureness: list[float] = field(default_factory=list)
    last: LastLabel | None = None
    change: RoundChange | None = None

    def apply(self, event: Event, at: datetime) -> None:
        """Apply an event that ``run_log`` has taken."""
        match event.WhichOneof("payload"):
            case "label_provided":
                self._label(event.label_provided, at)
            case "sample_skipped":
                self._forget(event.sample_skipped.sample_id)
            case "label_withdrawn":
                self._withdraw(event.label_withdrawn.sample_id)
            case "labels_requested":
                self._ask(event.round, event.labels_requested)
            case "model_trained":
                self._learn(event.round, event.model_trained)

    @property
    def phase(self) -> Phase:
        if self.over:
            return "over"
        if self.run_log.open:
            return "labelling"
        return "training" if self.batch_size else "starting"

    def _ask(self, round_: int, request: LabelsRequested) -> None:
        self.batch_size = len(request.sample_ids)
        said = [Prediction(*each) for each in zip(request.predicted, map(_share, request.confidence), strict=True)]
        if not said:
            return
        self.predictions.update(zip(request.sample_ids, said, strict=True))
        again = bool(self.batches) and self.batches[-1].round == round_  # replacements for skipped samples
        sure = [prediction.confidence for prediction in said]
        self.sureness = sorted([*self.sureness, *sure] if again else sure)
        mean, labels = sum(self.sureness) / len(self.sureness), len(self.labels)
        if again:
            labels = self.batches.pop().labels
        self.batches.append(Sureness(round_, labels, mean, self.sureness[0]))

    def _label(self, given: LabelProvided, at: datetime) -> None:
        self._forget(given.sample_id)
        self.labels[given.sample_id] = given.label
        self._count(given.sample_id, given.label, 1)
        self.last = LastLabel(given.sample_id, given.label, given.annotator, at, self.predictions.get(given.sample_id))

    def _withdraw(self, sample_id: int) -> None:
        self._forget(sample_id)
        if self.last and self.last.sample_id == sample_id:
            self.last = None

    def _forget(self, sample_id: int) -> None:
        """Remove the sample's previous label, if any."""
        if sample_id in self.labels:
            self._count(sample_id, self.labels.pop(sample_id), -1)

    def _count(self, sample_id: int, label: int, by: int) -> None:
        self.counts[label] += by
        if prediction := self.predictions.get(sample_id):
            self.compared += by
            self.agreed += by * (prediction.label == label)

    def _learn(self, round_: int, model: ModelTrained) -> None:
        self.accuracy = accuracy_estimate(
            model.evaluation,
            model.control,
            model.stopping,
            published=self.spec.protocol == Protocol.PROTOCOL_PUBLISHED,
            class_count=len(self.pool.classes) if self.pool else 0,
        )
        if (found := self.accuracy) is None:
            return
        alike = (each for each in reversed(self.points) if each.estimate.measured_on == found.measured_on)
        before = next(alike, None)
        if before and model.labels > before.labels:
            self.change = RoundChange(round_ - 1, model.labels - before.labels, before.estimate, found)
        self.points.append(Point(round_, model.labels, model.auto_labels, found))


def _share(value: float) -> float:
    """Clip ``value`` to [0, 1] for plotting, and map NaN to 0: the event log guarantees only that it is a number."""
    return 0.0 if math.isnan(value) else min(1.0, max(0.0, value))
