"""What the log of a run may hold. Pure.

Every writer of ours keeps to these rules. Whoever reads checks them all the same, and passes over what breaks them:
all services take the same decision about the same event, so that none of them can be led astray or brought down.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from labelloop.events.v1.events_pb2 import (
    AnswerGiven,
    AutoLabelsCertified,
    Event,
    FeatureKind,
    FeaturesLearned,
    GuaranteeSpec,
    Inheritance,
    LabelProvided,
    LabelSource,
    LabelsRequested,
    ModelTrained,
    PoolPublished,
    Protocol,
    Purpose,
    RunSpec,
    RunStarted,
    SamplesAutoLabelled,
    SkipKind,
)
from labelloop.wire.answers import Answers, Outcome, outcome_of

_DIGEST = re.compile("[0-9a-f]{64}")
_LATEST_S = 253_402_300_799  # the last second of the year 9999, where Timestamp ends
_COUNT_MAX = 2**31 - 1
ANNOTATORS_MAX = 25  # for one sample
AUDIT_MAX = 50_000  # in one event, of which the broker takes a megabyte
KAPPA = 0.99  # from which on two models agree
LEARNED = {FeatureKind.FEATURE_KIND_PATCHES, FeatureKind.FEATURE_KIND_GRAPH}  # what stands in the way of the samples
_PROTOCOLS = {Protocol.PROTOCOL_PUBLISHED, Protocol.PROTOCOL_HONEST}
_LABEL_SOURCES = {LabelSource.LABEL_SOURCE_DATASET, LabelSource.LABEL_SOURCE_QUEUE}
SKIP_KINDS = {SkipKind.SKIP_KIND_SKIPPED, SkipKind.SKIP_KIND_REJECTED}  # what an annotator may say
_SKIP_KINDS = SKIP_KINDS | {SkipKind.SKIP_KIND_EXPIRED, SkipKind.SKIP_KIND_CANCELLED, SkipKind.SKIP_KIND_DISPUTED}
_ROUND_ZERO = {"run_started", "pool_published", "features_learned", "run_cancelled"}
CONTROL_PERCENT_MAX = 50
_ENDS = {"run_finished", "run_cancelled", "run_failed"}


def shape_fault(event: Event) -> str:
    """What is wrong with an event by itself; empty where nothing is."""
    kind = event.WhichOneof("payload")
    if not (0 <= event.recorded_at.seconds <= _LATEST_S and 0 <= event.recorded_at.nanos < 1_000_000_000):
        return "its time is none"
    if kind in _ROUND_ZERO and event.round:
        return f"{kind} belongs to round 0"
    match kind:
        case "run_started":
            return _spec_fault(event.run_started.spec) or _inheritance_fault(event.run_started.inheritance)
        case "pool_published":
            return _pool_fault(event.pool_published)
        case "features_learned":
            learned = event.features_learned
            return _digest_fault(learned.features_sha256) or ("" if learned.feature_count else "its features are none")
        case "labels_requested":
            return _request_fault(event.labels_requested)
        case "sample_skipped":
            return "" if event.sample_skipped.kind in _SKIP_KINDS else "it does not say why"
        case "answer_given":
            return _given_fault(event.answer_given)
        case "model_trained":
            model = event.model_trained
            may_lack = (model.training_state_sha256, model.head_sha256)
            return _digest_fault(model.model_sha256) or _digest_faults(may_lack)
        case "auto_labels_certified":
            return _certificate_fault(event.auto_labels_certified)
        case "samples_auto_labelled":
            given = event.samples_auto_labelled
            return _uneven(given.sample_ids, given.classes, given.confidence) or _repeated(given.sample_ids)
    return ""


def _digest_fault(digest: str, *, may_lack: bool = False) -> str:
    return "" if _DIGEST.fullmatch(digest) or (may_lack and not digest) else "an artifact in it has no SHA-256"


def _digest_faults(digests: Sequence[str]) -> str:
    """Of digests that may lack."""
    return next((fault for digest in digests if (fault := _digest_fault(digest, may_lack=True))), "")


def _spec_fault(spec: RunSpec) -> str:
    """What no service could work with. Whether a run makes sense is asked before it is started."""
    if not spec.batch_size or not spec.report_every or (spec.auto_label_budget and not spec.auto_label_batch_size):
        return "a size in its spec is 0"
    if max(spec.label_budget, spec.auto_label_budget) > _COUNT_MAX:
        return "a budget in its spec is larger than any pool"
    if max(spec.queue.annotators, spec.queue.annotators_max) > ANNOTATORS_MAX:
        return "its spec asks too many annotators"
    if not 0 <= spec.start_scale < math.inf:
        return "the start in its spec is no number"
    if spec.control_percent > CONTROL_PERCENT_MAX:
        return "its spec draws more at random than it chooses"
    if spec.features not in FeatureKind.values():
        return "its spec names unknown features"
    if spec.HasField("guarantee") and not _sound_guarantee(spec.guarantee):
        return "the guarantee in its spec is none"
    return (
        "" if spec.protocol in _PROTOCOLS and spec.label_source in _LABEL_SOURCES else "its spec leaves a choice open"
    )


def _sound_guarantee(guarantee: GuaranteeSpec) -> bool:
    within = 0 < guarantee.target_accuracy < 1 and 0 < guarantee.confidence < 1
    return within and 0 < guarantee.audit_size <= AUDIT_MAX


def _certificate_fault(certificate: AutoLabelsCertified) -> str:
    counts = (certificate.correct_above, certificate.audited_above, certificate.audited)
    if list(counts) != sorted(counts) or not 0 <= certificate.lower_bound <= 1:
        return "its audit does not add up"
    return "it allows auto-labels without a threshold" if certificate.count and not _has_threshold(certificate) else ""


def _has_threshold(certificate: AutoLabelsCertified) -> bool:
    return certificate.HasField("threshold") and 0 <= certificate.threshold <= 1


def _inheritance_fault(taken_over: Inheritance) -> str:
    digests = (taken_over.model_sha256, taken_over.training_state_sha256)
    if fault := _digest_faults((*digests, taken_over.head_sha256, taken_over.features_sha256)):
        return fault
    columns = (taken_over.sample_ids, taken_over.classes, taken_over.auto_labelled)
    return _purposes_fault(taken_over.purposes, *columns) or _repeated(taken_over.sample_ids)


def _pool_fault(pool: PoolPublished) -> str:
    if fault := _digest_fault(pool.pool_sha256) or _digest_faults((pool.evaluation_sha256, pool.graph_sha256)):
        return fault
    sound = pool.sample_count and pool.classes and pool.shape and pool.dtype in {"uint8", "float32"}
    return "" if sound and math.prod(pool.shape) <= _COUNT_MAX else "its pool is none"


def _request_fault(request: LabelsRequested) -> str:
    known = request.predicted or request.confidence
    told = (request.predicted, request.confidence) if known else ()
    columns = (request.sample_ids, request.score, *told)
    repeated = _repeated(request.sample_ids) or _repeated(request.also_control)
    return _purposes_fault(request.purposes, *columns) or repeated


def _purposes_fault(purposes: Sequence[Purpose.ValueType], *columns: Sequence[object]) -> str:
    if not {*purposes} <= {*Purpose.values()}:
        return "it asks for an unknown purpose"
    return _uneven(*columns, *((purposes,) if purposes else ()))


def _given_fault(given: AnswerGiven) -> str:
    if given.WhichOneof("answer") == "skip" and given.skip not in SKIP_KINDS:
        return "it does not say why"
    sound = given.WhichOneof("answer") and (given.withdrawn or not given.HasField("withdrawn"))
    return "" if sound else "it says nothing of its sample"


def _uneven(*columns: Sequence[object]) -> str:
    return "its columns differ in length" if len({len(column) for column in columns}) > 1 else ""


def _repeated(sample_ids: Sequence[int]) -> str:
    return "it names a sample twice" if len(set(sample_ids)) < len(sample_ids) else ""


@dataclass
class RunRules:
    """A run as far as its rules go.

    ``taken`` are all samples that were ever chosen, gold ones among them; ``answers`` what holds for those that were
    asked for; ``labelled`` those of whole batches that have a label; ``others`` counts what else is trained on;
    ``news`` says whether the training set is another than the newest model's; ``parts`` counts the round's requests,
    ``skipped`` what the last of them is short of; ``to_certify`` auto-labels are allowed, in so many ``auto_parts``.
    """

    started: RunStarted
    pool: PoolPublished | None = None
    round: int = 0
    taken: set[int] = field(default_factory=set)
    answers: Answers = field(default_factory=Answers)
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
        """The size of the training set."""
        return len(self.labelled) + self.others

    def fault(self, event: Event) -> str:
        """Why ``event`` cannot come next; empty where it can. What comes after the end is late, not wrong."""
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
        """Only the trainer, which is past round 0 once there is a pool, ends what can be carried on."""
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
        anew = not self.round  # what is inherited may be fitted anew
        fits = seen == self.known and self.known and (self.news or anew)
        return "" if fits else f"it saw {seen} labels where there are {self.known}"

    def note(self, event: Event) -> None:
        """Take in an event without fault."""
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
                self.answers.ask(event.round, event.labels_requested.sample_ids)
                self.taken.update(event.labels_requested.sample_ids)
            case "samples_auto_labelled":
                self.taken.update(event.samples_auto_labelled.sample_ids)
                self.others += len(event.samples_auto_labelled.sample_ids)
                self._note_labelled(self.answers.take_changed())
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
        self.answers.take(outcome)
        if self.answers.whole:
            self.skipped = self.answers.batch_skips
            self._note_labelled([*self.answers.batch, *self.answers.take_changed()])
            self.answers.close()

    def _note_labelled(self, sample_ids: Sequence[int]) -> None:
        for sample_id in sample_ids:
            labelled = isinstance(self.answers.standing[sample_id], LabelProvided)
            self.news = self.news or labelled or sample_id in self.labelled
            (self.labelled.add if labelled else self.labelled.discard)(sample_id)
