"""Fold the events of a run into its state. No I/O.

``RunState.apply`` takes the events of one run in stream order; ``policy.next_step`` decides from the state what to do.
Labels join the training set when their batch is complete, in the order requested, so that the order of arrival has no
effect. Changed labels of earlier batches are taken in at the same moment, or when the model labels samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from labelloop.domain.limits import LEARNED
from labelloop.domain.sample_outcomes import Outcome, SampleOutcomes, outcome_of
from labelloop.events.v1.events_pb2 import (
    AutoLabelsCertified,
    Event,
    FeaturesLearned,
    LabelProvided,
    LabelsRequested,
    ModelTrained,
    PoolPublished,
    Purpose,
    RunSpec,
    RunStarted,
    SamplesAutoLabelled,
)

from trainer_svc.domain.examples import Batch, Example

MODEL_SOURCE = "model"
AUTO_LABELS_AT_ONCE = 50_000  # in one event; the broker takes up to a megabyte
_CONTROL = Purpose.PURPOSE_CONTROL  # looked up once: by name it takes a microsecond for each example of each fit


@dataclass(frozen=True)
class Trained:
    """A model and when it was recorded."""

    round: int
    event: ModelTrained
    at: datetime


@dataclass(frozen=True)
class Ended:
    """How a run ended.

    Attributes:
        kind: run_finished, run_cancelled or run_failed.
        why: The reason, for people.
    """

    kind: str
    why: str


@dataclass
class RunState:
    """The state of one run, as of the last event applied.

    Attributes:
        round: Round of the newest model; 0 before the first.
        asked: Samples that must not be chosen again: requested, auto-labelled, inherited and gold ones.
        news: Whether the training set has changed since the newest model.
        parts: Requests of this round.
        to_replace: Skipped samples of the last request.
        drawn: Labels of batches, without audits.
        drawn_control: Those of them that were requested as controls.
        controls: Samples that the random order of the controls has reached.
        audit: Samples labelled for the audit; not trained on.
        certified: Samples auto-labelled because the audit allows it; not trained on.
    """

    run_id: str
    started: RunStarted
    started_at: datetime
    changed_at: datetime
    round: int = 0
    pool: PoolPublished | None = None
    training: list[Example] = field(default_factory=list)
    asked: set[int] = field(default_factory=set)
    batch: Batch | None = None
    answers: SampleOutcomes = field(default_factory=SampleOutcomes)
    models: list[Trained] = field(default_factory=list)
    news: bool = False
    labels_joined: int = 0
    parts: int = 0
    to_replace: int = 0
    auto_labels: int = 0
    features: FeaturesLearned | None = None
    drawn: int = 0
    drawn_control: int = 0
    controls: set[int] = field(default_factory=set)
    audit_drawn: int = 0
    audit: list[Example] = field(default_factory=list)
    certificate: AutoLabelsCertified | None = None
    certified: list[Example] = field(default_factory=list)
    auto_parts: int = 0
    ended: Ended | None = None
    _places: dict[int, tuple[Batch, int]] = field(default_factory=dict)
    _times: dict[int, datetime] = field(default_factory=dict)

    @classmethod
    def begin(cls, event: Event, at: datetime) -> RunState:
        """Create the state of a run from its ``run_started`` event."""
        started = event.run_started
        state = cls(event.run_id, started, started_at=at, changed_at=at)
        taken_over = started.inheritance
        source = f"inherited:{taken_over.run_id}"
        purposes = taken_over.purposes or [Purpose.PURPOSE_UNSPECIFIED] * len(taken_over.sample_ids)
        columns = (taken_over.sample_ids, taken_over.classes, taken_over.auto_labelled, purposes)
        for sample_id, label, auto, purpose in zip(*columns, strict=True):
            state.training.append(Example(sample_id, label, auto, source, "", 0, at, None, None, purpose))
        state.asked.update(taken_over.sample_ids, (sample.sample_id for sample in event.run_started.spec.queue.gold))
        return state

    def as_it_stands(self) -> RunState:
        """Return a copy that later events do not change, to decide and act on while the log grows."""
        return replace(
            self,
            training=list(self.training),
            asked=set(self.asked),
            controls=set(self.controls),
            answers=replace(self.answers),
            models=list(self.models),
            audit=list(self.audit),
            certified=list(self.certified),
        )

    @property
    def over(self) -> bool:
        return self.ended is not None

    @property
    def spec(self) -> RunSpec:
        return self.started.spec

    @property
    def model_sha256(self) -> str:
        """Digest of the newest model; empty before the first."""
        return self.models[-1].event.model_sha256 if self.models else self.started.inheritance.model_sha256

    @property
    def head_sha256(self) -> str:
        """Digest of the model that ranks the pool: the newest one, or its part after the feature graph.

        Empty before there is a model on this run's features.
        """
        if self.models:
            return self.models[-1].event.head_sha256 or self.model_sha256
        return "" if self.begins_anew else self.started.inheritance.head_sha256 or self.model_sha256

    @property
    def features_sha256(self) -> str:
        """Digest of the graph from samples to features; empty if models take the samples themselves."""
        return self.features.features_sha256 if self.features else ""

    @property
    def begins_anew(self) -> bool:
        """Whether a model must be fitted on the inherited labels before ranking: the parent's used other features."""
        taken_over = self.started.inheritance
        known = not self.needs_features or self.features is not None
        return bool(taken_over.sample_ids) and known and taken_over.features_sha256 != self.features_sha256

    @property
    def needs_features(self) -> bool:
        return self.spec.features in LEARNED

    def is_control(self, example: Example) -> bool:
        """Whether it was drawn at random, or was chosen before the random order reached it."""
        return example.purpose == _CONTROL or example.sample_id in self.controls

    @property
    def training_state_sha256(self) -> str:
        """Digest of the training state that the next fit continues from; empty for a fresh start."""
        if self.models:
            return self.models[-1].event.training_state_sha256
        return self.started.inheritance.training_state_sha256

    @property
    def labels_paid(self) -> int:
        """Number of current labels that the run has taken in, including those of an audit."""
        return self.labels_joined + self.answers.batch_labels

    @property
    def audit_labels(self) -> int:
        return len(self.audit)

    @property
    def audit_asked(self) -> bool:
        return self.audit_drawn > 0

    @property
    def audit_unlabelled(self) -> int:
        """Number of samples drawn for the audit that have no label."""
        return self.audit_drawn - len(self.audit)

    @property
    def open_labels(self) -> int:
        return len(self.answers.open)

    @property
    def samples_skipped(self) -> int:
        return len(self.answers.skipped)

    @property
    def free_count(self) -> int:
        """Number of samples of the pool that can still be chosen."""
        return self.pool.sample_count - len(self.asked) if self.pool else 0

    @property
    def labelled(self) -> list[Example]:
        """The training set, then audited and certified samples, then those of the open batch that have a label."""
        return self.training + self.audit + self.certified + self._answered(self.answers.batch)

    @property
    def first_batch(self) -> int:
        """Size of the first batch; ``first_batch_size`` applies only if no model is inherited."""
        inherits = self.started.inheritance.model_sha256
        return (0 if inherits else self.spec.first_batch_size) or self.spec.batch_size

    @property
    def planned_rounds(self) -> int:
        """Number of models that the whole run will fit, unless it ends early."""
        later = self.spec.label_budget - min(self.first_batch, self.spec.label_budget)
        batches = bool(self.spec.label_budget) + -(-later // self.spec.batch_size)
        auto_size = self.spec.auto_label_batch_size
        return self.begins_anew + batches + (-(-self.spec.auto_label_budget // auto_size) if auto_size else 0)

    def apply(self, event: Event, at: datetime) -> None:
        """Apply the next event of this run; after its end, only labels, skips and withdrawals still under way."""
        outcome = outcome_of(event)
        if self.ended and outcome is None:
            return
        self.changed_at = at
        if outcome:
            self._take_outcome(outcome, at)
            return
        match kind := event.WhichOneof("payload"):
            case "pool_published":
                self.pool = event.pool_published
            case "features_learned":
                self.features = event.features_learned
            case "labels_requested":
                self._ask(Batch(event.round, event.labels_requested))
            case "model_trained":
                self.round, self.parts, self.to_replace, self.news = event.round, 0, 0, False
                self.models.append(Trained(event.round, event.model_trained, at))
            case "auto_labels_certified":
                self.certificate = event.auto_labels_certified
            case "samples_auto_labelled":
                self._take_auto_labels(event.samples_auto_labelled, event.round, at)
            case "run_finished" | "run_cancelled":
                self.ended = Ended(kind, getattr(event, kind).reason)
            case "run_failed":
                self.ended = Ended(kind, event.run_failed.message)

    def _ask(self, batch: Batch) -> None:
        self.batch, self.parts = batch, self.parts + 1
        purposes = batch.request.purposes
        self.audit_drawn += sum(purpose == Purpose.PURPOSE_AUDIT for purpose in purposes)
        if not self.audit_asked:
            drawn = (i for i, purpose in enumerate(purposes) if purpose == Purpose.PURPOSE_CONTROL)
            self.controls.update(batch.request.sample_ids[i] for i in drawn)
            self.controls.update(batch.request.also_control)
        self.answers.open_batch(batch.round, batch.request.sample_ids)
        self.asked.update(batch.request.sample_ids)
        self._places.update((sample_id, (batch, i)) for i, sample_id in enumerate(batch.request.sample_ids))

    def _take_outcome(self, outcome: Outcome, at: datetime) -> None:
        if outcome.sample_id not in self.answers.rounds or outcome.revision != self.answers.next_revision(
            outcome.sample_id
        ):
            return
        self.answers.apply(outcome)
        self._times[outcome.sample_id] = at
        if self.answers.whole:
            self._close_batch()

    def _close_batch(self) -> None:
        assert self.batch is not None, "what is whole was asked for"
        self.to_replace = self.answers.batch_skips
        answered = self._answered(self.batch.request.sample_ids)
        if not self.audit_asked:
            self._count_drawn(self.batch.request, {example.sample_id for example in answered})
        self._join(answered)
        self._take_changes()
        self.answers.close_batch()
        self.batch = None

    def _count_drawn(self, request: LabelsRequested, answered: set[int]) -> None:
        """Count the labels and controls of a batch.

        Samples without a label are not counted, so that as many of their kind replace them.
        """
        why = zip(request.sample_ids, request.purposes, strict=False)  # no purposes if the strategy chose them all
        self.drawn += len(answered)
        self.drawn_control += sum(id_ in answered and purpose == Purpose.PURPOSE_CONTROL for id_, purpose in why)

    def _answered(self, sample_ids: Iterable[int]) -> list[Example]:
        """Return the examples of those samples that have a label, in the order given."""
        examples = []
        for sample_id in sample_ids:
            outcome = self.answers.standing.get(sample_id)
            if isinstance(outcome, LabelProvided):
                batch, i = self._places[sample_id]
                examples.append(batch.example(i, outcome, self._times[sample_id]))
        return examples

    def _join(self, examples: Sequence[Example]) -> None:
        trained_on = [example for example in examples if example.purpose != Purpose.PURPOSE_AUDIT]
        self.training += trained_on
        self.audit += [example for example in examples if example.purpose == Purpose.PURPOSE_AUDIT]
        self.labels_joined += len(examples)
        self.news = self.news or bool(trained_on)

    def _take_changes(self) -> None:
        """Apply the changed outcomes of samples of earlier batches.

        A label replaces the one before it, or is appended if there was none; a sample without a label is removed.
        """
        changed = {sample_id: self._answered([sample_id]) for sample_id in self.answers.pop_changed()}
        if not changed:
            return
        kept = _exchanged(self.training, changed)
        audit = _exchanged(self.audit, changed)
        self.news = self.news or kept != self.training
        self.labels_joined += len(kept) + len(audit) - len(self.training) - len(self.audit)
        self.training, self.audit = kept, audit
        self._join([example for examples in changed.values() for example in examples])

    def _take_auto_labels(self, given: SamplesAutoLabelled, round_: int, at: datetime) -> None:
        self.asked.update(given.sample_ids)
        self.auto_labels += len(given.sample_ids)
        examples = [
            Example(sample_id, label, True, MODEL_SOURCE, "", round_, at, predicted=label, confidence=confidence)
            for sample_id, label, confidence in zip(given.sample_ids, given.classes, given.confidence, strict=True)
        ]
        if self.certificate:
            self.certified += examples
            self.auto_parts += 1
        else:
            self.training += examples
            self.news = True
        self._take_changes()


def _exchanged(examples: Sequence[Example], changed: dict[int, list[Example]]) -> list[Example]:
    """Return ``examples`` with those replaced that ``changed`` names; the entries used are removed from ``changed``."""
    kept = []
    for example in examples:
        kept += changed.pop(example.sample_id, [example])
    return kept
