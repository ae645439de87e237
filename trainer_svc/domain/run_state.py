"""Fold the events of a run into its state. No I/O.

``RunState.apply`` takes the events of one run in stream order; ``policy.next_step`` decides from the state what to do.
Labels join the training set when their batch is complete, in the order requested, so that the order of arrival has no
effect. Changed labels of earlier batches are taken in at the same moment, or when the model labels samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from labelloop.domain.duplicates import NO_DUPLICATES, Duplicates
from labelloop.domain.limits import LEARNED
from labelloop.domain.run_log import RunLog
from labelloop.domain.run_view import RunView
from labelloop.domain.sample_outcomes import Outcome, outcome_of
from labelloop.events.v1.events_pb2 import (
    Event,
    Inheritance,
    LabelProvided,
    LabelsRequested,
    ModelTrained,
    Purpose,
    SamplesAutoLabelled,
)

from trainer_svc.domain.certified_labels import CertifiedLabels, auto_labelled
from trainer_svc.domain.equal_samples import free_count
from trainer_svc.domain.examples import Batch, Example

AUTO_LABELS_AT_ONCE = 50_000  # in one event; the broker takes up to a megabyte
_CONTROL = Purpose.PURPOSE_CONTROL  # looked up once: by name it takes a microsecond for each example of each fit


@dataclass(frozen=True)
class Trained:
    """A model and when it was recorded."""

    round: int
    event: ModelTrained
    at: datetime


@dataclass
class RunState(RunView):
    """The state of one run, as of the last event applied.

    Attributes:
        event_count: How many events have had an effect since the run started.
        drawn: Labels of batches, without audits.
        drawn_control: Those of them that were requested as controls.
        controls: Samples that the random order of the controls has reached.
        audit: Samples labelled for the audit; not trained on.
        certified: Samples auto-labelled because the audit allows it; not trained on.
        duplicates: The pool's equal samples, which are not in the log; none until they are read.
    """

    run_id: str
    started_at: datetime
    changed_at: datetime
    event_count: int = 0
    training: list[Example] = field(default_factory=list)
    models: list[Trained] = field(default_factory=list)
    drawn: int = 0
    drawn_control: int = 0
    controls: set[int] = field(default_factory=set)
    audit: list[Example] = field(default_factory=list)
    certified: CertifiedLabels = field(default_factory=CertifiedLabels)
    duplicates: Duplicates = NO_DUPLICATES
    _places: dict[int, tuple[Batch, int]] = field(default_factory=dict)
    _times: dict[int, datetime] = field(default_factory=dict)

    @classmethod
    def begin(cls, event: Event, at: datetime) -> RunState:
        """Create the state of a run from its ``run_started`` event."""
        started = event.run_started
        state = cls(RunLog(started), event.run_id, started_at=at, changed_at=at)
        taken_over = started.inheritance
        count = len(taken_over.sample_ids)
        given = taken_over.given_count if taken_over.run_id else count
        sources = [f"inherited:{taken_over.run_id}"] * (count - given) + ["given"] * given
        purposes = taken_over.purposes or [Purpose.PURPOSE_UNSPECIFIED] * count
        columns = (taken_over.sample_ids, taken_over.classes, taken_over.auto_labelled, sources, purposes)
        for sample_id, label, auto, source, purpose in zip(*columns, strict=True):
            state.training.append(Example(sample_id, label, auto, source, "", 0, at, None, None, purpose))
        return state

    def as_it_stands(self) -> RunState:
        """Return a copy that later events do not change, to decide and act on while the log grows."""
        return replace(
            self,
            run_log=self.run_log.as_it_stands(),
            training=list(self.training),
            controls=set(self.controls),
            models=list(self.models),
            audit=list(self.audit),
        )

    @property
    def inheritance(self) -> Inheritance:
        return self.run_log.started.inheritance

    @property
    def head_sha256(self) -> str:
        """Digest of the model that ranks the pool: the newest one, or its part after the feature graph.

        Empty before there is a model on this run's features.
        """
        if self.models:
            return self.models[-1].event.head_sha256 or self.model_sha256
        return "" if self.begins_anew else self.inheritance.head_sha256 or self.model_sha256

    @property
    def features_sha256(self) -> str:
        """Digest of the graph from samples to features; empty if models take the samples themselves."""
        return self.run_log.features.features_sha256 if self.run_log.features else ""

    @property
    def begins_anew(self) -> bool:
        """Whether a model must be fitted on the inherited labels before ranking.

        That is so if no model of them is inherited, or one that uses other features.
        """
        taken_over = self.inheritance
        known = not self.needs_features or self.run_log.features is not None
        fits = bool(taken_over.model_sha256) and taken_over.features_sha256 == self.features_sha256
        return bool(taken_over.sample_ids) and known and not fits

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
        return self.inheritance.training_state_sha256

    @property
    def labels_paid(self) -> int:
        """Number of current labels that the run has taken in, including those of an audit."""
        return self.run_log.label_count + self.answers.batch_labels

    @property
    def audit_labels(self) -> int:
        return len(self.audit)

    @property
    def audit_unlabelled(self) -> int:
        """Number of samples drawn for the audit that have no label."""
        return self.run_log.audit_drawn - len(self.audit)

    @property
    def open_labels(self) -> int:
        return len(self.answers.open)

    @property
    def samples_skipped(self) -> int:
        return len(self.answers.skipped)

    @property
    def free_count(self) -> int:
        """Number of samples of the pool that can still be chosen; equal samples are one."""
        if self.pool is None:
            return 0
        assert len(self.duplicates) == self.pool.duplicate_count, "they are read before anything is decided"
        return free_count(self.duplicates, self.pool.sample_count, self.run_log.taken)

    @property
    def labelled(self) -> list[Example]:
        """The examples that :meth:`each_labelled` yields."""
        return list(self.each_labelled())

    def each_labelled(self) -> Iterator[Example]:
        """Yield the training set, then audited and certified samples, then those of the open batch with a label.

        They are those of the moment when the first is asked for, whatever becomes of the run.
        """
        certified, answered = self.certified, self._answered(self.answers.batch)
        yield from [*self.training, *self.audit]
        yield from certified
        yield from answered

    @property
    def first_batch(self) -> int:
        """Size of the first batch; ``first_batch_size`` applies only if no labels are known before."""
        inherits = self.inheritance.sample_ids
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
        if not self.run_log.apply(event):
            return
        self.event_count += 1
        self.changed_at = at
        if outcome := outcome_of(event):
            self._take_outcome(outcome, at)
            return
        match event.WhichOneof("payload"):
            case "labels_requested":
                self._ask(Batch(event.round, event.labels_requested))
            case "model_trained":
                self.models.append(Trained(event.round, event.model_trained, at))
            case "samples_auto_labelled":
                self._take_auto_labels(event.samples_auto_labelled, event.round, at)

    def _ask(self, batch: Batch) -> None:
        purposes = batch.request.purposes
        if not self.run_log.audited:
            drawn = (i for i, purpose in enumerate(purposes) if purpose == Purpose.PURPOSE_CONTROL)
            self.controls.update(batch.request.sample_ids[i] for i in drawn)
            self.controls.update(batch.request.also_control)
        self._places.update((sample_id, (batch, i)) for i, sample_id in enumerate(batch.request.sample_ids))

    def _take_outcome(self, outcome: Outcome, at: datetime) -> None:
        self._times[outcome.sample_id] = at
        if self.run_log.completed:
            self._join_batch(self.run_log.completed)
            self._take_revised()

    def _join_batch(self, sample_ids: Sequence[int]) -> None:
        answered = self._answered(sample_ids)
        if not self.run_log.audited:
            batch, _ = self._places[sample_ids[0]]
            self._count_drawn(batch.request, {example.sample_id for example in answered})
        self._join(answered)

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
        self.training += [example for example in examples if example.purpose != Purpose.PURPOSE_AUDIT]
        self.audit += [example for example in examples if example.purpose == Purpose.PURPOSE_AUDIT]

    def _take_revised(self) -> None:
        """Apply the changed outcomes of samples of earlier batches.

        A label replaces the one before it, or is appended if there was none; a sample without a label is removed.
        """
        if revised := {sample_id: self._answered([sample_id]) for sample_id in self.run_log.revised}:
            self.training, self.audit = _exchanged(self.training, revised), _exchanged(self.audit, revised)
            self._join([example for examples in revised.values() for example in examples])

    def _take_auto_labels(self, given: SamplesAutoLabelled, round_: int, at: datetime) -> None:
        if self.run_log.certificate:
            self.certified = self.certified.with_more(given, round_, at)
        else:
            self.training += auto_labelled(given, round_, at)
        self._take_revised()


def _exchanged(examples: Sequence[Example], changed: dict[int, list[Example]]) -> list[Example]:
    """Return ``examples`` with those replaced that ``changed`` names; the entries used are removed from ``changed``."""
    kept = []
    for example in examples:
        kept += changed.pop(example.sample_id, [example])
    return kept
