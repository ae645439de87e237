"""Validate the sequence of events in a run. No I/O.

All of labelloop's writers obey these rules. Readers check them nevertheless and skip events that break them, so that
all services make the same decision about the same event, and a bad one can neither mislead nor crash any of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import dataclass, field, replace

from pyroaring import BitMap

from labelloop.domain.annotators import Annotators
from labelloop.domain.limits import LEARNED
from labelloop.domain.run_end import ABOUT_ARCHIVES, RUN_ENDS, Ended, end_of
from labelloop.domain.sample_outcomes import Outcome, SampleOutcomes, outcome_of
from labelloop.events.v1.events_pb2 import (
    AnswerGiven,
    AutoLabelsCertified,
    Event,
    FeaturesLearned,
    LabelProvided,
    LabelsRequested,
    ModelTrained,
    PoolPublished,
    Purpose,
    RunStarted,
    SamplesAutoLabelled,
)


@dataclass
class RunLog:
    """The state of a run that decides which event may come next, and that the states of all services share.

    Attributes:
        started: The event that started the run.
        pool: The run's pool; None until it is published.
        round: The current round: that of the newest model, 0 before the first.
        taken: All samples ever chosen, gold samples included. A bitmap, as they may be millions.
        answers: Outcomes of the requested samples.
        labelled: Samples of complete batches that have a label, those of an audit included.
        label_count: Number of samples in ``labelled``, which copies of the state share.
        completed: Samples of the batch that the newest event completed, in the order requested; mostly none.
        revised: Samples of earlier batches whose changed outcomes take effect with the newest event; mostly none.
        auto_labels: Number of samples that the model labelled.
        news: Whether the training set differs from the newest model's.
        parts: Number of label requests in the current round.
        skipped: How many samples of the last of them were skipped; 0 until it is complete.
        features: The learned features, if any.
        model: The newest model, if any.
        audit_drawn: Number of samples drawn for the audit.
        certificate: What the audit allows; None until it is known.
        to_certify: Number of auto-labels that the certificate still allows.
        auto_parts: Number of events with certified auto-labels.
        annotators: Who is who among the run's annotators.
        ended: How the run ended; None before.
        closed: Whether :meth:`close` was called.
    """

    started: RunStarted
    pool: PoolPublished | None = None
    round: int = 0
    taken: BitMap = field(default_factory=BitMap)
    answers: SampleOutcomes = field(default_factory=SampleOutcomes)
    labelled: set[int] = field(default_factory=set)
    label_count: int = 0
    completed: Sequence[int] = ()
    revised: Sequence[int] = ()
    auto_labels: int = 0
    news: bool = False
    parts: int = 0
    skipped: int = 0
    features: FeaturesLearned | None = None
    model: ModelTrained | None = None
    audit_drawn: int = 0
    certificate: AutoLabelsCertified | None = None
    to_certify: int = 0
    auto_parts: int = 0
    annotators: Annotators = field(default_factory=Annotators)
    ended: Ended | None = None
    closed: bool = False

    def __post_init__(self) -> None:
        self.gold = {sample.sample_id: sample.label for sample in self.started.spec.queue.gold}
        self.taken.update(self.started.inheritance.sample_ids, self.gold)

    def as_it_stands(self) -> RunLog:
        """Return a copy whose decisions later events do not change; outcomes and labelled samples are shared."""
        current = copy(self)
        current.taken, current.answers = self.taken.copy(), replace(self.answers)
        return current

    def close(self) -> None:
        """Drop what is known of single samples of a run that has ended, for a service that has no use for it.

        Outcomes that come late then have no effect here, and no fault is found in them.
        """
        assert self.over, "before its end, samples decide what may come next"
        self.closed = True
        self.answers, self.labelled, self.taken, self.gold = SampleOutcomes(), set(), BitMap(), {}

    @property
    def over(self) -> bool:
        return self.ended is not None

    @property
    def audited(self) -> bool:
        """Whether an audit was requested."""
        return self.audit_drawn > 0

    @property
    def known(self) -> int:
        """Size of the training set."""
        return self.label_count + len(self.started.inheritance.sample_ids) + self.auto_labels

    @property
    def model_sha256(self) -> str:
        """Digest of the newest model, or of the inherited one; empty if there is none."""
        return self.model.model_sha256 if self.model else self.started.inheritance.model_sha256

    @property
    def open(self) -> dict[int, None]:
        """Samples that wait for a label, as in ``answers.open``; none once the run has ended."""
        return {} if self.ended else self.answers.open

    def fault(self, event: Event) -> str:
        """Explain why ``event`` cannot come next; empty if it can. Events after the run's end are late, not wrong."""
        kind = event.WhichOneof("payload")
        if kind in ABOUT_ARCHIVES:
            return "it says where a run lies, and is no part of one"
        if kind == "import_cleared":
            return "the run is complete"
        if self.closed:
            return ""
        if kind == "run_failed" and not self.over:
            return self._failure_fault(event.round)
        if self.over or kind in RUN_ENDS:
            return ""
        if outcome := outcome_of(event):
            return self._outcome_fault(event.round, outcome)
        match kind:
            case "run_started":
                return "the run has started already"
            case "pool_published":
                return "the run has a pool already" if self.pool else ""
            case "annotators_changed":
                return self.annotators.fault(event.annotators_changed)
        if self.pool is None:
            return "the run has no pool yet"
        match kind:
            case "answer_given":
                return self._given_fault(event.round, event.answer_given)
            case "labels_requested":
                return self._request_fault(event.round, event.labels_requested)
            case "samples_auto_labelled":
                return self._auto_fault(event.round, event.samples_auto_labelled)
            case "features_learned":
                return self._features_fault(event.features_learned)
            case "auto_labels_certified":
                return self._certified_fault(event.round, event.auto_labels_certified)
            case "model_trained":
                return self._model_fault(event.round, event.model_trained)
        return "an event of an unknown kind"

    def _failure_fault(self, round_: int) -> str:
        """Check a failure: once there is a pool, only the trainer may fail a run, and it is past round 0 by then."""
        if self.pool is None:
            return "what has no pool fails in round 0" if round_ else ""
        if not round_:
            return "what has a pool cannot fail for the want of one"
        if self.answers.open:
            return "a batch is still open"
        return "" if round_ == self.round + 1 else f"the next round is {self.round + 1}"

    def _features_fault(self, learned: FeaturesLearned) -> str:
        if self.started.spec.features not in LEARNED:
            return "its models see samples as they are"
        return "the run has features already" if self.features else ""

    def _certified_fault(self, round_: int, certificate: AutoLabelsCertified) -> str:
        assert self.pool is not None, "asked after the pool was checked"
        if not self.audited or self.answers.open:
            return "no audit stands behind it"
        if round_ != self.round or self.certificate:
            return "the run is certified already" if self.certificate else f"the run is in round {self.round}"
        return "it allows more than is left" if certificate.count > self.pool.sample_count - len(self.taken) else ""

    def _outcome_fault(self, round_: int, outcome: Outcome) -> str:
        if isinstance(outcome, LabelProvided) and (fault := self._class_fault(outcome.label)):
            return fault
        return self.answers.fault(round_, outcome)

    def _class_fault(self, label: int) -> str:
        outside = self.pool and label >= len(self.pool.classes)
        return f"class {label} lies outside the pool's classes" if outside else ""

    def _given_fault(self, round_: int, given: AnswerGiven) -> str:
        asked = given.sample_id in self.gold if not round_ else False
        if not asked and self.answers.rounds.get(given.sample_id) != round_:
            return f"round {round_} did not ask for sample {given.sample_id}"
        return self._class_fault(given.late_label if given.HasField("late_label") else given.label)

    def _request_fault(self, round_: int, request: LabelsRequested) -> str:
        if fault := self._choice_fault(round_, request.sample_ids):
            return fault
        if request.part != self.parts:
            return f"the next request of its round is number {self.parts}"
        if BitMap(request.also_control) - self.taken - BitMap(request.sample_ids):
            return "it counts samples as controls that nobody was asked for"
        audit = Purpose.PURPOSE_AUDIT in request.purposes
        if audit and not (self.round and self.started.spec.HasField("guarantee")):
            return "there is nothing to audit"
        if self.audited and not audit:
            return "what follows an audit is its auto-labels"
        more = self.parts and self.known and len(request.sample_ids) > self.skipped
        return f"it asks for more than the {self.skipped} that were skipped" if more else ""

    def _choice_fault(self, round_: int, sample_ids: Sequence[int]) -> str:
        if self.answers.open:
            return "a batch is still open"
        if round_ != self.round:
            return f"the run is in round {self.round}"
        if not sample_ids:
            return "it names no sample"
        assert self.pool is not None, "asked after the pool was checked"
        if max(sample_ids) >= self.pool.sample_count:
            return f"sample {max(sample_ids)} lies outside the pool"
        chosen = self.taken & BitMap(sample_ids)
        return f"sample {chosen.min()} was chosen before" if chosen else ""

    def _auto_fault(self, round_: int, given: SamplesAutoLabelled) -> str:
        assert self.pool is not None, "asked after the pool was checked"
        if max(given.classes, default=0) >= len(self.pool.classes):
            return f"class {max(given.classes)} lies outside the pool's classes"
        if self.audited and len(given.sample_ids) > self.to_certify:
            return "the audit does not allow as many"
        if given.part != self.auto_parts:
            return f"the next part of its auto-labels is number {self.auto_parts}"
        return self._choice_fault(round_, given.sample_ids)

    def _model_fault(self, round_: int, model: ModelTrained) -> str:
        if self.audited:
            return "the run's last model is audited already"
        if self.answers.open:
            return "a batch is still open"
        if round_ != self.round + 1:
            return f"the next model begins round {self.round + 1}"
        seen = model.labels + model.auto_labels
        first_fit = not self.round  # inherited labels may be fitted again
        fits = seen == self.known and self.known and (self.news or first_fit)
        return "" if fits else f"it saw {seen} labels where there are {self.known}"

    def apply(self, event: Event) -> bool:
        """Apply an event that has no fault, and return whether it has an effect.

        After the end of the run, only outcomes of requested samples still have one.
        """
        self.completed = self.revised = ()
        if self.closed:
            return False
        outcome = outcome_of(event)
        if self.over and not (outcome and not self._outcome_fault(event.round, outcome)):
            return False
        if outcome:
            self._apply_outcome(outcome)
        else:
            self._advance(event)
        return True

    def _advance(self, event: Event) -> None:
        match event.WhichOneof("payload"):
            case "pool_published":
                self.pool = event.pool_published
            case "features_learned":
                self.features = event.features_learned
            case "auto_labels_certified":
                self.certificate, self.to_certify = event.auto_labels_certified, event.auto_labels_certified.count
            case "annotators_changed":
                self.annotators.apply(event.annotators_changed)
            case "labels_requested":
                self._open_batch(event.round, event.labels_requested)
            case "samples_auto_labelled":
                self._apply_auto_labels(event.samples_auto_labelled)
            case "model_trained":
                self.round, self.model, self.news = event.round, event.model_trained, False
                self.parts = self.skipped = 0
            case _:
                self.ended = end_of(event)

    def _open_batch(self, round_: int, request: LabelsRequested) -> None:
        self.parts, self.skipped = self.parts + 1, 0
        self.audit_drawn += list(request.purposes).count(Purpose.PURPOSE_AUDIT)
        self.answers.open_batch(round_, request.sample_ids)
        self.taken.update(request.sample_ids)

    def _apply_auto_labels(self, given: SamplesAutoLabelled) -> None:
        self.taken.update(given.sample_ids)
        self.auto_labels += len(given.sample_ids)
        self._take_revised()
        self.news = True
        if self.certificate:
            self.to_certify -= len(given.sample_ids)
            self.auto_parts += 1

    def _apply_outcome(self, outcome: Outcome) -> None:
        self.answers.apply(outcome)
        if self.answers.whole:
            self.skipped, self.completed = self.answers.batch_skips, tuple(self.answers.batch)
            self._note_labelled(self.completed)
            self._take_revised()
            self.answers.close_batch()

    def _take_revised(self) -> None:
        self.revised = self.answers.pop_changed()
        self._note_labelled(self.revised)

    def _note_labelled(self, sample_ids: Iterable[int]) -> None:
        for sample_id in sample_ids:
            labelled = isinstance(self.answers.standing[sample_id], LabelProvided)
            before = sample_id in self.labelled
            self.news = self.news or labelled or before
            self.label_count += labelled - before
            (self.labelled.add if labelled else self.labelled.discard)(sample_id)
