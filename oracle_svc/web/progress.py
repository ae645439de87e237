"""How far a run has come, for whoever labels in it: a fold over its events. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from labelloop.events.v1.events_pb2 import (
    Accuracy,
    Event,
    LabelProvided,
    LabelsRequested,
    ModelTrained,
    RunSpec,
)
from labelloop.wire.intervals import wilson_interval

Measured = Literal["evaluation", "validation"]
Phase = Literal["starting", "labelling", "training", "over"]


@dataclass(frozen=True)
class Point:
    """A model's accuracy and its 95 per cent interval, all in [0, 1]; ``labels`` and ``auto_labels`` are what it was
    trained on."""

    round: int
    labels: int
    auto_labels: int
    accuracy: float
    low: float
    high: float
    measured_on: Measured


@dataclass(frozen=True)
class Sureness:
    """How sure the model was of the samples that it asked for in one round, in [0, 1]; ``labels`` stood by then."""

    round: int
    labels: int
    mean: float
    least: float


@dataclass(frozen=True)
class Opinion:
    """What the model said of a sample when it was asked for; ``confidence`` lies in [0, 1]."""

    label: int
    confidence: float


@dataclass(frozen=True)
class LastLabel:
    """The newest label, and what the model had said of its sample."""

    sample_id: int
    label: int
    annotator: str
    at: datetime
    opinion: Opinion | None

    @property
    def agreed(self) -> bool | None:
        return None if self.opinion is None else self.opinion.label == self.label


@dataclass(frozen=True)
class RoundChange:
    """What the labels of the round that ended last did to the accuracy; ``gain_per_label`` is a share a label."""

    round: int
    labels: int
    before: float
    after: float
    measured_on: Measured

    @property
    def gain_per_label(self) -> float:
        return (self.after - self.before) / self.labels


@dataclass(frozen=True)
class Ended:
    """``kind`` is run_finished, run_cancelled or run_failed; ``why`` is for people."""

    kind: str
    why: str


@dataclass
class Progress:
    """``labels`` that stand by sample, ``skipped`` samples without one, ``opinions`` on all that was asked for;
    ``batch`` is the newest request and ``open`` what of it waits. ``agreed`` of ``compared`` standing labels are what
    the model had said. ``sureness`` is the newest round's, sample by sample, ascending."""

    spec: RunSpec
    classes: tuple[str, ...] = ()
    round: int = 0
    labels: dict[int, int] = field(default_factory=dict)
    counts: Counter[int] = field(default_factory=Counter)
    skipped: set[int] = field(default_factory=set)
    opinions: dict[int, Opinion] = field(default_factory=dict)
    compared: int = 0
    agreed: int = 0
    batch: frozenset[int] = frozenset()
    open: set[int] = field(default_factory=set)
    auto_labels: int = 0
    points: list[Point] = field(default_factory=list)
    batches: list[Sureness] = field(default_factory=list)
    sureness: list[float] = field(default_factory=list)
    last: LastLabel | None = None
    change: RoundChange | None = None
    ended: Ended | None = None

    @classmethod
    def begin(cls, event: Event, at: datetime) -> Progress:
        """Of a run's ``run_started``."""
        return cls(event.run_started.spec)

    def apply(self, event: Event, at: datetime) -> None:
        """Take in the next event of this run. After the end only answers that were still under way count."""
        match event.WhichOneof("payload"):
            case "label_provided":
                self._label(event.label_provided, at)
            case "sample_skipped":
                self._skip(event.sample_skipped.sample_id)
            case "label_withdrawn":
                self._withdraw(event.label_withdrawn.sample_id)
            case kind if self.ended is None and kind is not None:
                self._advance(kind, event)

    def _advance(self, kind: str, event: Event) -> None:
        match kind:
            case "pool_published":
                self.classes = tuple(event.pool_published.classes)
            case "labels_requested":
                self._ask(event.round, event.labels_requested)
            case "samples_auto_labelled":
                self.auto_labels += len(event.samples_auto_labelled.sample_ids)
            case "model_trained":
                self.round = event.round
                self._learn(event.round, event.model_trained)
            case "run_finished":
                self._end(kind, event.run_finished.reason)
            case "run_cancelled":
                self._end(kind, event.run_cancelled.reason)
            case "run_failed":
                self._end(kind, event.run_failed.message)

    @property
    def phase(self) -> Phase:
        if self.ended:
            return "over"
        if self.open:
            return "labelling"
        return "training" if self.batch else "starting"

    def _ask(self, round_: int, request: LabelsRequested) -> None:
        self.batch = frozenset(request.sample_ids)
        self.open = set(request.sample_ids)
        said = [Opinion(*each) for each in zip(request.predicted, map(_share, request.confidence), strict=True)]
        if not said:
            return
        self.opinions.update(zip(request.sample_ids, said, strict=True))
        again = bool(self.batches) and self.batches[-1].round == round_  # what takes the place of skipped samples
        sure = [opinion.confidence for opinion in said]
        self.sureness = sorted([*self.sureness, *sure] if again else sure)
        mean, labels = sum(self.sureness) / len(self.sureness), len(self.labels)
        if again:
            labels = self.batches.pop().labels
        self.batches.append(Sureness(round_, labels, mean, self.sureness[0]))

    def _label(self, given: LabelProvided, at: datetime) -> None:
        self._forget(given.sample_id)
        self.labels[given.sample_id] = given.label
        self._count(given.sample_id, given.label, 1)
        self.last = LastLabel(given.sample_id, given.label, given.annotator, at, self.opinions.get(given.sample_id))

    def _skip(self, sample_id: int) -> None:
        self._forget(sample_id)
        self.skipped.add(sample_id)

    def _withdraw(self, sample_id: int) -> None:
        waits_again = bool(self.open) and sample_id in self.batch
        self._forget(sample_id)
        if waits_again:
            self.open.add(sample_id)
        if self.last and self.last.sample_id == sample_id:
            self.last = None

    def _forget(self, sample_id: int) -> None:
        """What was said of a sample before, if anything was."""
        self.open.discard(sample_id)
        self.skipped.discard(sample_id)
        if sample_id in self.labels:
            self._count(sample_id, self.labels.pop(sample_id), -1)

    def _count(self, sample_id: int, label: int, by: int) -> None:
        self.counts[label] += by
        if opinion := self.opinions.get(sample_id):
            self.compared += by
            self.agreed += by * (opinion.label == label)

    def _learn(self, round_: int, model: ModelTrained) -> None:
        if (point := _point(round_, model)) is None:
            return
        before = next((each for each in reversed(self.points) if each.measured_on == point.measured_on), None)
        if before and point.labels > before.labels:
            labels = point.labels - before.labels
            self.change = RoundChange(round_ - 1, labels, before.accuracy, point.accuracy, point.measured_on)
        self.points.append(point)

    def _end(self, kind: str, why: str) -> None:
        self.ended = Ended(kind, why)
        self.open.clear()


def _share(value: float) -> float:
    """``value`` as something that can be drawn: the log does not promise more than a number."""
    return 0.0 if math.isnan(value) else min(1.0, max(0.0, value))


def _point(round_: int, model: ModelTrained) -> Point | None:
    """On the evaluation set where that was measured, else on the validation samples, else None."""
    on_what: Sequence[tuple[Measured, Accuracy]] = (("evaluation", model.evaluation), ("validation", model.stopping))
    for measured_on, measured in on_what:
        if 0 < measured.total >= measured.correct:
            low, high = wilson_interval(measured.correct, measured.total)
            accuracy = measured.correct / measured.total
            return Point(round_, model.labels, model.auto_labels, accuracy, low, high, measured_on)
    return None
