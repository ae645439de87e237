"""What a run is: a fold over its events, and the one next thing to do. Pure.

``RunState.apply`` takes the events of one run in stream order. ``next_step`` is the whole policy of a run. Labels join
the training set when their batch is whole and in the order asked for, so that the order of arrival decides nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime

from labelloop.events.v1.events_pb2 import (
    Event,
    LabelProvided,
    LabelsRequested,
    ModelTrained,
    PoolPublished,
    RunSpec,
    RunStarted,
    SamplesAutoLabelled,
)
from labelloop.scorer.v1.scorer_pb2 import Strategy

MODEL_SOURCE = "model"
_ANSWERS = {"label_provided", "sample_skipped"}


@dataclass(frozen=True)
class Example:
    """A sample of the training set and all that is known of its label."""

    sample_id: int
    label: int
    auto_labelled: bool
    source: str
    annotator: str
    round: int
    at: datetime
    predicted: int | None
    confidence: float | None


@dataclass(frozen=True)
class Trained:
    """A model and when it was recorded."""

    round: int
    event: ModelTrained
    at: datetime


@dataclass(frozen=True)
class Ended:
    """``kind`` is run_finished, run_cancelled or run_failed; ``why`` is for people."""

    kind: str
    why: str


@dataclass
class Batch:
    """Labels asked for together, the answers so far by sample id, and the samples that get none."""

    round: int
    request: LabelsRequested
    answers: dict[int, tuple[LabelProvided, datetime]] = field(default_factory=dict)
    skipped: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.wanted = frozenset(self.request.sample_ids)

    def takes(self, sample_id: int) -> bool:
        return sample_id in self.wanted and sample_id not in self.answers and sample_id not in self.skipped

    @property
    def open_count(self) -> int:
        return len(self.wanted) - len(self.answers) - len(self.skipped)

    def examples(self) -> list[Example]:
        """The answered ones, in the order asked for."""
        known = bool(self.request.predicted)
        return [
            Example(
                sample_id=sample_id,
                label=answer.label,
                auto_labelled=False,
                source=answer.source,
                annotator=answer.annotator,
                round=self.round,
                at=at,
                predicted=self.request.predicted[i] if known else None,
                confidence=self.request.confidence[i] if known else None,
            )
            for i, sample_id in enumerate(self.request.sample_ids)
            if sample_id in self.answers
            for answer, at in [self.answers[sample_id]]
        ]


@dataclass(frozen=True)
class RequestLabels:
    """Rank the pool and ask for the first ``count``; ``part`` counts the requests of the round."""

    count: int
    strategy: Strategy.ValueType
    part: int = 0


@dataclass(frozen=True)
class AutoLabel:
    """Let the model label the ``count`` samples it is most sure of."""

    count: int


@dataclass(frozen=True)
class Fit:
    """Fit on the training set and export."""


@dataclass(frozen=True)
class Finish:
    """Nothing is left to do."""

    reason: str


@dataclass(frozen=True)
class Wait:
    """The next event comes from outside, or never: the run is over."""


Step = RequestLabels | AutoLabel | Fit | Finish | Wait


@dataclass
class RunState:
    """``round`` is that of the newest model; 0 before the first. ``parts`` are requests of this round, ``to_replace``
    samples of the last of them that were skipped."""

    run_id: str
    started: RunStarted
    started_at: datetime
    changed_at: datetime
    round: int = 0
    pool: PoolPublished | None = None
    training: list[Example] = field(default_factory=list)
    asked: set[int] = field(default_factory=set)
    batch: Batch | None = None
    models: list[Trained] = field(default_factory=list)
    parts: int = 0
    to_replace: int = 0
    labels_paid: int = 0
    samples_skipped: int = 0
    auto_labels: int = 0
    ended: Ended | None = None

    @classmethod
    def begin(cls, event: Event, at: datetime) -> RunState:
        """The state right after ``run_started``."""
        started = event.run_started
        state = cls(event.run_id, started, started_at=at, changed_at=at)
        taken_over = started.inheritance
        source = f"inherited:{taken_over.run_id}"
        for sample_id, label, auto in zip(
            taken_over.sample_ids, taken_over.classes, taken_over.auto_labelled, strict=True
        ):
            state.training.append(Example(sample_id, label, auto, source, "", 0, at, None, None))
        state.asked.update(taken_over.sample_ids)
        return state

    def as_it_stands(self) -> RunState:
        """A copy that later events leave alone: to decide by and act on while the log goes on."""
        return replace(self, training=list(self.training), asked=set(self.asked), models=list(self.models))

    @property
    def over(self) -> bool:
        return self.ended is not None

    @property
    def spec(self) -> RunSpec:
        return self.started.spec

    @property
    def trained_count(self) -> int:
        """How many of the training set the newest model has seen; an inherited model has seen all that came with it."""
        if self.models:
            return self.models[-1].event.labels + self.models[-1].event.auto_labels
        return len(self.started.inheritance.sample_ids)

    @property
    def model_sha256(self) -> str:
        """The newest model; empty before the first."""
        return self.models[-1].event.model_sha256 if self.models else self.started.inheritance.model_sha256

    @property
    def training_state_sha256(self) -> str:
        """What the next fit carries on from; empty for a fresh start."""
        if self.models:
            return self.models[-1].event.training_state_sha256
        return self.started.inheritance.training_state_sha256

    @property
    def open_labels(self) -> int:
        return self.batch.open_count if self.batch else 0

    @property
    def free_count(self) -> int:
        """Samples of the pool that were never chosen."""
        return self.pool.sample_count - len(self.asked) if self.pool else 0

    @property
    def labelled(self) -> list[Example]:
        """The training set, and behind it the answers of a batch that is not whole yet."""
        return self.training + (self.batch.examples() if self.batch else [])

    @property
    def planned_rounds(self) -> int:
        """Models that the whole run will have, where nothing ends it early."""
        batches = -(-self.spec.label_budget // self.spec.batch_size) if self.spec.label_budget else 0
        auto_size = self.spec.auto_label_batch_size
        return batches + (-(-self.spec.auto_label_budget // auto_size) if auto_size else 0)

    def apply(self, event: Event, at: datetime) -> None:
        """Take in the next event of this run. After the end only labels that were still under way count."""
        kind = event.WhichOneof("payload")
        if self.ended and kind not in _ANSWERS:
            return
        self.changed_at = at
        match kind:
            case "pool_published":
                self.pool = event.pool_published
            case "labels_requested":
                self.batch = Batch(event.round, event.labels_requested)
                self.parts += 1
                self.asked.update(event.labels_requested.sample_ids)
            case "label_provided":
                self._take_label(event.label_provided, at)
            case "sample_skipped":
                self._take_skip(event.sample_skipped.sample_id)
            case "model_trained":
                self.round, self.parts, self.to_replace = event.round, 0, 0
                self.models.append(Trained(event.round, event.model_trained, at))
            case "samples_auto_labelled":
                self._take_auto_labels(event.samples_auto_labelled, event.round, at)
            case "run_finished" | "run_cancelled":
                self.ended = Ended(kind, getattr(event, kind).reason)
            case "run_failed":
                self.ended = Ended(kind, event.run_failed.message)

    def _take_label(self, label: LabelProvided, at: datetime) -> None:
        if self.batch is None or not self.batch.takes(label.sample_id):
            return
        self.batch.answers[label.sample_id] = (label, at)
        self.labels_paid += 1
        self._close_batch(self.batch)

    def _take_skip(self, sample_id: int) -> None:
        if self.batch is None or not self.batch.takes(sample_id):
            return
        self.batch.skipped.add(sample_id)
        self.samples_skipped += 1
        self._close_batch(self.batch)

    def _close_batch(self, batch: Batch) -> None:
        if not batch.open_count:
            self.training += batch.examples()
            self.to_replace = len(batch.skipped)
            self.batch = None

    def _take_auto_labels(self, given: SamplesAutoLabelled, round_: int, at: datetime) -> None:
        self.asked.update(given.sample_ids)
        self.auto_labels += len(given.sample_ids)
        for sample_id, label, confidence in zip(given.sample_ids, given.classes, given.confidence, strict=True):
            self.training.append(
                Example(sample_id, label, True, MODEL_SOURCE, "", round_, at, predicted=label, confidence=confidence)
            )


def next_step(state: RunState) -> Step:
    """The one thing to do now."""
    spec = state.spec
    if state.ended or state.pool is None or state.batch is not None:
        return Wait()
    strategy = spec.strategy if state.model_sha256 else spec.first_strategy
    if replaceable := min(state.to_replace, state.free_count):
        return RequestLabels(replaceable, strategy, state.parts)
    if len(state.training) > state.trained_count:
        return Fit()
    labels_left, auto_labels_left = spec.label_budget - state.labels_paid, spec.auto_label_budget - state.auto_labels
    if (labels_left or auto_labels_left) and not state.free_count:  # what was skipped is missing now
        return Finish("no sample of the pool is left to ask for")
    if labels_left:
        return RequestLabels(min(spec.batch_size, labels_left, state.free_count), strategy)
    if auto_labels_left:
        return AutoLabel(min(spec.auto_label_batch_size, auto_labels_left, state.free_count))
    return Finish("the budget is spent")
