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
    Event,
    Inheritance,
    LabelProvided,
    LabelSource,
    LabelsRequested,
    ModelTrained,
    PoolPublished,
    Protocol,
    RunSpec,
    RunStarted,
    SamplesAutoLabelled,
    SampleSkipped,
    SkipKind,
)

_DIGEST = re.compile("[0-9a-f]{64}")
_LATEST_S = 253_402_300_799  # the last second of the year 9999, where Timestamp ends
_COUNT_MAX = 2**31 - 1
_PROTOCOLS = {Protocol.PROTOCOL_PUBLISHED, Protocol.PROTOCOL_HONEST}
_LABEL_SOURCES = {LabelSource.LABEL_SOURCE_DATASET, LabelSource.LABEL_SOURCE_QUEUE}
SKIP_KINDS = {SkipKind.SKIP_KIND_SKIPPED, SkipKind.SKIP_KIND_REJECTED}
_ROUND_ZERO = {"run_started", "pool_published", "run_cancelled", "run_failed"}
_ENDS = {"run_finished", "run_cancelled", "run_failed"}


def shape_fault(event: Event) -> str:
    """What is wrong with an event by itself; empty where nothing is."""
    kind = event.WhichOneof("payload")
    if not 0 <= event.recorded_at.seconds <= _LATEST_S:
        return "its time is none"
    if kind in _ROUND_ZERO and event.round:
        return f"{kind} belongs to round 0"
    match kind:
        case "run_started":
            return _spec_fault(event.run_started.spec) or _inheritance_fault(event.run_started.inheritance)
        case "pool_published":
            return _pool_fault(event.pool_published)
        case "labels_requested":
            return _request_fault(event.labels_requested)
        case "sample_skipped":
            return "" if event.sample_skipped.kind in SKIP_KINDS else "it does not say why"
        case "model_trained":
            model = event.model_trained
            return _digest_fault(model.model_sha256) or _digest_fault(model.training_state_sha256, may_lack=True)
        case "samples_auto_labelled":
            given = event.samples_auto_labelled
            return _uneven(given.sample_ids, given.classes, given.confidence) or _repeated(given.sample_ids)
    return ""


def _digest_fault(digest: str, *, may_lack: bool = False) -> str:
    return "" if _DIGEST.fullmatch(digest) or (may_lack and not digest) else "an artifact in it has no SHA-256"


def _spec_fault(spec: RunSpec) -> str:
    """What no service could work with. Whether a run makes sense is asked before it is started."""
    if not spec.batch_size or not spec.report_every or (spec.auto_label_budget and not spec.auto_label_batch_size):
        return "a size in its spec is 0"
    if max(spec.label_budget, spec.auto_label_budget) > _COUNT_MAX:
        return "a budget in its spec is larger than any pool"
    if not 0 <= spec.start_scale < math.inf:
        return "the start in its spec is no number"
    return (
        "" if spec.protocol in _PROTOCOLS and spec.label_source in _LABEL_SOURCES else "its spec leaves a choice open"
    )


def _inheritance_fault(taken_over: Inheritance) -> str:
    digests = (taken_over.model_sha256, taken_over.training_state_sha256)
    if fault := next((fault for digest in digests if (fault := _digest_fault(digest, may_lack=True))), ""):
        return fault
    columns = (taken_over.sample_ids, taken_over.classes, taken_over.auto_labelled)
    return _uneven(*columns) or _repeated(taken_over.sample_ids)


def _pool_fault(pool: PoolPublished) -> str:
    if fault := _digest_fault(pool.pool_sha256) or _digest_fault(pool.evaluation_sha256, may_lack=True):
        return fault
    sound = pool.sample_count and pool.classes and pool.shape and pool.dtype in {"uint8", "float32"}
    return "" if sound and math.prod(pool.shape) <= _COUNT_MAX else "its pool is none"


def _request_fault(request: LabelsRequested) -> str:
    known = request.predicted or request.confidence
    told = (request.predicted, request.confidence) if known else ()
    return _uneven(request.sample_ids, request.score, *told) or _repeated(request.sample_ids)


def _uneven(*columns: Sequence[object]) -> str:
    return "its columns differ in length" if len({len(column) for column in columns}) > 1 else ""


def _repeated(sample_ids: Sequence[int]) -> str:
    return "it names a sample twice" if len(set(sample_ids)) < len(sample_ids) else ""


@dataclass
class RunRules:
    """A run as far as its rules go.

    ``taken`` are all samples that were ever chosen, ``asked`` those whose labels were asked for with the round that
    asked, ``wanted`` those of the open batch; ``known`` counts the training set, ``trained`` what the newest model saw;
    ``parts`` counts the round's requests, ``skipped`` what the last of them is short of.
    """

    started: RunStarted
    pool: PoolPublished | None = None
    round: int = 0
    taken: set[int] = field(default_factory=set)
    wanted: set[int] = field(default_factory=set)
    asked: dict[int, int] = field(default_factory=dict)
    known: int = 0
    trained: int = 0
    parts: int = 0
    skipped: int = 0
    over: bool = False

    def __post_init__(self) -> None:
        inherited = self.started.inheritance.sample_ids
        self.taken.update(inherited)
        self.known = self.trained = len(inherited)

    def fault(self, event: Event) -> str:
        """Why ``event`` cannot come next; empty where it can. What comes after the end is late, not wrong."""
        kind = event.WhichOneof("payload")
        if kind == "run_failed" and self.pool and not self.over:
            return "what has a pool cannot fail for the want of one"
        if self.over or kind in _ENDS:
            return ""
        match kind:
            case "run_started":
                return "the run has started already"
            case "pool_published":
                return "the run has a pool already" if self.pool else ""
            case "label_provided":
                return self._label_fault(event.round, event.label_provided)
            case "sample_skipped":
                return self._answer_fault(event.round, event.sample_skipped)
        if self.pool is None:
            return "the run has no pool yet"
        match kind:
            case "labels_requested":
                return self._request_fault(event.round, event.labels_requested)
            case "samples_auto_labelled":
                return self._auto_fault(event.round, event.samples_auto_labelled)
            case "model_trained":
                return self._model_fault(event.round, event.model_trained)
        return "an event of an unknown kind"

    def _label_fault(self, round_: int, label: LabelProvided) -> str:
        if self.pool and label.label >= len(self.pool.classes):
            return f"class {label.label} lies outside the pool's classes"
        return self._answer_fault(round_, label)

    def _answer_fault(self, round_: int, answer: LabelProvided | SampleSkipped) -> str:
        asked = self.asked.get(answer.sample_id) == round_
        return "" if asked else f"round {round_} did not ask for sample {answer.sample_id}"

    def _request_fault(self, round_: int, request: LabelsRequested) -> str:
        if fault := self._choice_fault(round_, request.sample_ids):
            return fault
        if request.part != self.parts:
            return f"the next request of its round is number {self.parts}"
        more = self.parts and len(request.sample_ids) > self.skipped
        return f"it asks for more than the {self.skipped} that were skipped" if more else ""

    def _choice_fault(self, round_: int, sample_ids: Sequence[int]) -> str:
        if self.wanted:
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
        return self._choice_fault(round_, given.sample_ids)

    def _model_fault(self, round_: int, model: ModelTrained) -> str:
        if self.wanted:
            return "a batch is still open"
        if round_ != self.round + 1:
            return f"the next model begins round {self.round + 1}"
        seen = model.labels + model.auto_labels
        return "" if seen == self.known > self.trained else f"it saw {seen} labels where there are {self.known}"

    def note(self, event: Event) -> None:
        """Take in an event without fault."""
        if self.over:
            return
        kind = event.WhichOneof("payload")
        match kind:
            case "pool_published":
                self.pool = event.pool_published
            case "labels_requested":
                self.parts, self.skipped = self.parts + 1, 0
                self.wanted = set(event.labels_requested.sample_ids)
                self.asked.update(dict.fromkeys(self.wanted, event.round))
                self.taken |= self.wanted
            case "label_provided":
                self._note_label(event.label_provided.sample_id)
            case "sample_skipped":
                self._note_skip(event.sample_skipped.sample_id)
            case "samples_auto_labelled":
                self.taken.update(event.samples_auto_labelled.sample_ids)
                self.known += len(event.samples_auto_labelled.sample_ids)
            case "model_trained":
                self.round, self.trained = event.round, self.known
                self.parts = self.skipped = 0
            case _:
                self.over = kind in _ENDS

    def _note_label(self, sample_id: int) -> None:
        if sample_id in self.wanted:
            self.wanted.remove(sample_id)
            self.known += 1

    def _note_skip(self, sample_id: int) -> None:
        if sample_id in self.wanted:
            self.wanted.remove(sample_id)
            self.skipped += 1
