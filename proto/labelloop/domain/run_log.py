"""Validate the sequence of events in a run. No I/O.

All of labelloop's writers obey these rules. Readers check them nevertheless and skip events that break them, so that
all services make the same decision about the same event, and a bad one can neither mislead nor crash any of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from labelloop.domain.limits import LEARNED
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

_ENDS = {"run_finished", "run_cancelled", "run_failed"}


@dataclass
class RunLog:
    """The state of a run that decides which event may come next.

    Attributes:
        started: The event that started the run.
        pool: The run's pool; None until it is published.
        round: The current round: that of the newest model, 0 before the first.
        taken: All samples ever chosen, gold samples included.
        answers: Outcomes of the requested samples.
        labelled: Samples of complete batches that have a label.
        others: Number of other training samples: inherited and auto-labelled ones.
        news: Whether the training set differs from the newest model's.
        parts: Number of label requests in the current round.
        skipped: How many samples of the last of them were skipped; 0 until it is complete.
        features: Whether features were learned.
        audited: Whether an audit was requested.
        certified: Whether auto-labels were certified.
        to_certify: Number of auto-labels that the certificate still allows.
        auto_parts: Number of events with certified auto-labels.
        over: Whether the run has ended.
    """

    started: RunStarted
    pool: PoolPublished | None = None
    round: int = 0
    taken: set[int] = field(default_factory=set)
    answers: SampleOutcomes = field(default_factory=SampleOutcomes)
    labelled: set[int] = field(default_factory=set)
    others: int = 0
    news: bool = False
    parts: int = 0
    skipped: int = 0
    features: bool = False
    audited: bool = False
    certified: bool = False
    to_certify: int = 0
    auto_parts: int = 0
    over: bool = False

    def __post_init__(self) -> None:
        inherited = self.started.inheritance.sample_ids
        self.gold = {sample.sample_id for sample in self.started.spec.queue.gold}
        self.taken.update(inherited, self.gold)
        self.others = len(inherited)

    @property
    def known(self) -> int:
        """Size of the training set."""
        return len(self.labelled) + self.others

    def fault(self, event: Event) -> str:
        """Explain why ``event`` cannot come next; empty if it can. Events after the run's end are late, not wrong."""
        kind = event.WhichOneof("payload")
        if kind == "run_failed" and not self.over:
            return self._failure_fault(event.round)
        if self.over or kind in _ENDS:
            return ""
        if outcome := outcome_of(event):
            return self._outcome_fault(event.round, outcome)
        match kind:
            case "run_started":
                return "the run has started already"
            case "pool_published":
                return "the run has a pool already" if self.pool else ""
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
        if round_ != self.round or self.certified:
            return "the run is certified already" if self.certified else f"the run is in round {self.round}"
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
        return self._class_fault(given.label)

    def _request_fault(self, round_: int, request: LabelsRequested) -> str:
        if fault := self._choice_fault(round_, request.sample_ids):
            return fault
        if request.part != self.parts:
            return f"the next request of its round is number {self.parts}"
        if {*request.also_control}.difference(self.taken, request.sample_ids):
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
        chosen = self.taken.intersection(sample_ids)
        return f"sample {min(chosen)} was chosen before" if chosen else ""

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

    def apply(self, event: Event) -> None:
        """Apply an event that has no fault."""
        if self.over:
            return
        kind = event.WhichOneof("payload")
        if outcome := outcome_of(event):
            self._note_outcome(outcome)
            return
        match kind:
            case "pool_published":
                self.pool = event.pool_published
            case "features_learned":
                self.features = True
            case "auto_labels_certified":
                self.certified, self.to_certify = True, event.auto_labels_certified.count
            case "labels_requested":
                self.parts, self.skipped = self.parts + 1, 0
                self.audited = self.audited or Purpose.PURPOSE_AUDIT in event.labels_requested.purposes
                self.answers.open_batch(event.round, event.labels_requested.sample_ids)
                self.taken.update(event.labels_requested.sample_ids)
            case "samples_auto_labelled":
                self.taken.update(event.samples_auto_labelled.sample_ids)
                self.others += len(event.samples_auto_labelled.sample_ids)
                self._note_labelled(self.answers.pop_changed())
                self.news = True
                if self.certified:
                    self.to_certify -= len(event.samples_auto_labelled.sample_ids)
                    self.auto_parts += 1
            case "model_trained":
                self.round, self.news = event.round, False
                self.parts = self.skipped = 0
            case _:
                self.over = kind in _ENDS

    def _note_outcome(self, outcome: Outcome) -> None:
        self.answers.apply(outcome)
        if self.answers.whole:
            self.skipped = self.answers.batch_skips
            self._note_labelled([*self.answers.batch, *self.answers.pop_changed()])
            self.answers.close_batch()

    def _note_labelled(self, sample_ids: Sequence[int]) -> None:
        for sample_id in sample_ids:
            labelled = isinstance(self.answers.standing[sample_id], LabelProvided)
            self.news = self.news or labelled or sample_id in self.labelled
            (self.labelled.add if labelled else self.labelled.discard)(sample_id)
