"""What a run is: a fold over its events, and the one next thing to do. Pure.

``RunState.apply`` takes the events of one run in stream order. ``next_step`` is the whole policy of a run. Labels join
the training set when their batch is whole and in the order asked for, so that the order of arrival decides nothing;
what is said anew of samples of earlier batches is taken in at the same moment.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

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
from labelloop.scorer.v1.scorer_pb2 import Strategy
from labelloop.wire.answers import Answers, Outcome, outcome_of
from labelloop.wire.run_rules import LEARNED

from trainer_svc.stopping import reason_to_stop

MODEL_SOURCE = "model"
AUTO_LABELS_AT_ONCE = 50_000  # in one event, of which the broker takes a megabyte
_CONTROL = Purpose.PURPOSE_CONTROL  # looked up once: by name it takes a microsecond, for each example of each fit


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
    purpose: Purpose.ValueType = Purpose.PURPOSE_UNSPECIFIED
    score: float | None = None


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


@dataclass(frozen=True)
class Batch:
    """Labels asked for together."""

    round: int
    request: LabelsRequested

    def example(self, i: int, label: LabelProvided, at: datetime) -> Example:
        """The sample that was asked for in place ``i``, with its label."""
        known = bool(self.request.predicted)
        return Example(
            sample_id=label.sample_id,
            label=label.label,
            auto_labelled=False,
            source=label.source,
            annotator=label.annotator,
            round=self.round,
            at=at,
            predicted=self.request.predicted[i] if known else None,
            confidence=self.request.confidence[i] if known else None,
            purpose=self._purpose(i),
            score=self.request.score[i] if self.request.score else None,
        )

    def _purpose(self, i: int) -> Purpose.ValueType:
        """What a strategy draws at random serves as a control too."""
        drawn = self.request.strategy == Strategy.STRATEGY_RANDOM
        chosen = Purpose.PURPOSE_CONTROL if drawn else Purpose.PURPOSE_CHOSEN
        return (self.request.purposes[i] if self.request.purposes else Purpose.PURPOSE_UNSPECIFIED) or chosen


@dataclass(frozen=True)
class LearnFeatures:
    """Have the graph from samples to features learned, or the one that is given looked over."""


@dataclass(frozen=True)
class RequestLabels:
    """Rank the pool and ask for the first ``count``, and for ``control`` more that are drawn at random; ``part`` counts
    the requests of the round. ``audit`` says that all are drawn at random, to audit with."""

    count: int
    strategy: Strategy.ValueType
    part: int = 0
    control: int = 0
    audit: bool = False


@dataclass(frozen=True)
class Certify:
    """Find out from the audit which auto-labels are right often enough."""


@dataclass(frozen=True)
class AutoLabel:
    """Let the model label the ``count`` samples it is most sure of; ``part`` counts those that an audit allows."""

    count: int
    part: int = 0


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


ToTake = LearnFeatures | RequestLabels | Certify | AutoLabel | Fit | Finish
Step = ToTake | Wait


@dataclass
class RunState:
    """``round`` is that of the newest model; 0 before the first. ``asked`` are samples that were ever chosen, gold ones
    among them; ``parts`` are requests of this round, ``to_replace`` samples of the last of them that were skipped;
    ``news`` says whether the training set is another than the newest model's. ``drawn`` and ``drawn_control`` count
    labels of batches, ``controls`` are samples that the random order of the controls has come to. ``audit`` are samples
    that were labelled to audit with and ``certified`` those auto-labelled by leave of the audit: neither is trained
    on."""

    run_id: str
    started: RunStarted
    started_at: datetime
    changed_at: datetime
    round: int = 0
    pool: PoolPublished | None = None
    training: list[Example] = field(default_factory=list)
    asked: set[int] = field(default_factory=set)
    batch: Batch | None = None
    answers: Answers = field(default_factory=Answers)
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
        """The state right after ``run_started``."""
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
        """A copy that later events leave alone: to decide by and act on while the log goes on."""
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
        """The newest model; empty before the first."""
        return self.models[-1].event.model_sha256 if self.models else self.started.inheritance.model_sha256

    @property
    def head_sha256(self) -> str:
        """What ranks the pool: the newest model, or the part of it behind the features; empty before there is one that
        sees what this run's models see."""
        if self.models:
            return self.models[-1].event.head_sha256 or self.model_sha256
        return "" if self.begins_anew else self.started.inheritance.head_sha256 or self.model_sha256

    @property
    def features_sha256(self) -> str:
        """The graph from samples to what models see; empty where they see the samples."""
        return self.features.features_sha256 if self.features else ""

    @property
    def begins_anew(self) -> bool:
        """Whether what is inherited has to be fitted anew before it ranks anything: its models saw other features."""
        taken_over = self.started.inheritance
        known = not self.needs_features or self.features is not None
        return bool(taken_over.sample_ids) and known and taken_over.features_sha256 != self.features_sha256

    @property
    def needs_features(self) -> bool:
        return self.spec.features in LEARNED

    def is_control(self, example: Example) -> bool:
        """Whether it was drawn at random, or was chosen before the random order came to it."""
        return example.purpose == _CONTROL or example.sample_id in self.controls

    @property
    def control_examples(self) -> list[Example]:
        """What of the training set is a random sample of the pool."""
        return [example for example in self.training if self.is_control(example)]

    @property
    def training_state_sha256(self) -> str:
        """What the next fit carries on from; empty for a fresh start."""
        if self.models:
            return self.models[-1].event.training_state_sha256
        return self.started.inheritance.training_state_sha256

    @property
    def labels_paid(self) -> int:
        """Labels that hold, as far as the run has taken them in; those to audit with among them."""
        return self.labels_joined + self.answers.batch_labels

    @property
    def audit_labels(self) -> int:
        return len(self.audit)

    @property
    def audit_asked(self) -> bool:
        return self.audit_drawn > 0

    @property
    def audit_unlabelled(self) -> int:
        """Samples that were drawn to audit with and hold no label."""
        return self.audit_drawn - len(self.audit)

    @property
    def open_labels(self) -> int:
        return len(self.answers.open)

    @property
    def samples_skipped(self) -> int:
        return len(self.answers.skipped)

    @property
    def free_count(self) -> int:
        """Samples of the pool that were never chosen."""
        return self.pool.sample_count - len(self.asked) if self.pool else 0

    @property
    def labelled(self) -> list[Example]:
        """The training set, behind it what an audit labelled and allowed, and the answers of a batch that is not
        whole."""
        return self.training + self.audit + self.certified + self._answered(self.answers.batch)

    @property
    def first_batch(self) -> int:
        """Labels to ask for first: more of them only where there is no model to go by."""
        inherits = self.started.inheritance.model_sha256
        return (0 if inherits else self.spec.first_batch_size) or self.spec.batch_size

    @property
    def planned_rounds(self) -> int:
        """Models that the whole run will have, where nothing ends it early."""
        later = self.spec.label_budget - min(self.first_batch, self.spec.label_budget)
        batches = bool(self.spec.label_budget) + -(-later // self.spec.batch_size)
        auto_size = self.spec.auto_label_batch_size
        return self.begins_anew + batches + (-(-self.spec.auto_label_budget // auto_size) if auto_size else 0)

    def apply(self, event: Event, at: datetime) -> None:
        """Take in the next event of this run. After the end only labels that were still under way count."""
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
        self.answers.ask(batch.round, batch.request.sample_ids)
        self.asked.update(batch.request.sample_ids)
        self._places.update((sample_id, (batch, i)) for i, sample_id in enumerate(batch.request.sample_ids))

    def _take_outcome(self, outcome: Outcome, at: datetime) -> None:
        if outcome.sample_id not in self.answers.rounds or outcome.revision != self.answers.next_revision(
            outcome.sample_id
        ):
            return
        self.answers.take(outcome)
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
        self.answers.close()
        self.batch = None

    def _count_drawn(self, request: LabelsRequested, answered: set[int]) -> None:
        """What got no label is not counted: as many of its kind take its place."""
        why = zip(request.sample_ids, request.purposes, strict=False)  # no purposes where the strategy chose them all
        self.drawn += len(answered)
        self.drawn_control += sum(id_ in answered and purpose == Purpose.PURPOSE_CONTROL for id_, purpose in why)

    def _answered(self, sample_ids: Iterable[int]) -> list[Example]:
        """Those of them that hold a label, in the order given."""
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
        """What holds by now for samples of earlier batches: a label takes the place of the one before it, or goes to
        the end where there was none; what holds no label leaves."""
        changed = {sample_id: self._answered([sample_id]) for sample_id in self.answers.take_changed()}
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
    """``examples`` with those that ``changed`` names in place of theirs, which are taken out of it."""
    kept = []
    for example in examples:
        kept += changed.pop(example.sample_id, [example])
    return kept


def next_step(state: RunState) -> Step:
    """The one thing to do now."""
    spec = state.spec
    if state.ended or state.pool is None or state.batch is not None:
        return Wait()
    if state.needs_features and state.features is None:
        return LearnFeatures()
    if state.audit_asked:
        return _after_audit(state)
    if state.begins_anew and not state.models:
        return Fit()
    strategy = spec.strategy if state.model_sha256 else spec.first_strategy
    if replaceable := min(state.to_replace, state.free_count):
        return _labels(state, strategy, replaceable)
    if state.news and state.training:
        return Fit()
    # One that was withdrawn may be back beside its substitute.
    labels_left = max(0, spec.label_budget - state.labels_paid)
    reason = "the budget is spent"
    models = [model.event for model in state.models]
    if labels_left and (stop := reason_to_stop(spec.stopping, models, state.planned_rounds)):
        reason, labels_left = stop, 0
    if labels_left and state.free_count:
        size = spec.batch_size if state.models else state.first_batch
        return _labels(state, strategy, min(size, labels_left, state.free_count))
    if spec.HasField("guarantee") and state.models and state.free_count:
        count = min(spec.guarantee.audit_size, state.free_count)
        return RequestLabels(count, Strategy.STRATEGY_RANDOM, state.parts, audit=True)
    auto_labels_left = spec.auto_label_budget - state.auto_labels
    if (labels_left or auto_labels_left) and not state.free_count:  # what was skipped is missing now
        return Finish("no sample of the pool is left to ask for")
    if auto_labels_left:
        return AutoLabel(min(spec.auto_label_batch_size, auto_labels_left, state.free_count))
    return Finish(reason)


def _labels(state: RunState, strategy: Strategy.ValueType, count: int) -> RequestLabels:
    """So many of the next ``count`` are drawn at random that their share of all comes out as stated; none where all
    are."""
    drawn_anyway = state.spec.strategy == Strategy.STRATEGY_RANDOM
    due = (state.drawn + count) * state.spec.control_percent // 100 - state.drawn_control
    control = 0 if drawn_anyway else min(max(0, due), count)
    return RequestLabels(count - control, strategy, state.parts, control)


def _after_audit(state: RunState) -> Step:
    """What was audited is not trained on: the certificate is about the model that the audit judged."""
    if replaceable := min(state.to_replace, state.free_count):
        return RequestLabels(replaceable, Strategy.STRATEGY_RANDOM, state.parts, audit=True)
    if state.certificate is None:
        return Certify()
    if left := min(state.certificate.count - len(state.certified), state.free_count):
        return AutoLabel(min(left, AUTO_LABELS_AT_ONCE), state.auto_parts)
    labelled, rest = len(state.certified), state.free_count
    return Finish(f"{labelled} samples are auto-labelled, as the audit allows; {rest} are left to people")
