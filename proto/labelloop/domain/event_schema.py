"""Validate a single event, independently of the earlier events of its run."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Sequence

from labelloop.domain.limits import (
    ANNOTATORS_MAX,
    ARCHIVES_MAX,
    AUDIT_MAX,
    BY_CLASS_MAX,
    CONTROL_PERCENT_MAX,
    COUNT_MAX,
    GUIDELINES_BYTES_MAX,
    SKIP_KINDS,
    TEXT_CHARACTERS_MAX,
    TEXT_DTYPE,
)
from labelloop.domain.sample_layout import layout_fault
from labelloop.events.v1.events_pb2 import (
    Accuracy,
    AnnotatorsChanged,
    AnswerGiven,
    AutoLabelsCertified,
    Event,
    FeatureKind,
    GuaranteeSpec,
    ImportedEvents,
    Inheritance,
    LabelSource,
    LabelsRequested,
    ModelTrained,
    PoolPublished,
    Protocol,
    Purpose,
    RunArchived,
    RunSpec,
    ShownPool,
    SkipKind,
)

_DIGEST = re.compile("[0-9a-f]{64}")
_LATEST_S = 253_402_300_799  # the last second of the year 9999, where Timestamp ends
_PROTOCOLS = {Protocol.PROTOCOL_PUBLISHED, Protocol.PROTOCOL_HONEST}
_LABEL_SOURCES = {LabelSource.LABEL_SOURCE_DATASET, LabelSource.LABEL_SOURCE_QUEUE}
_SKIP_KINDS = SKIP_KINDS | {SkipKind.SKIP_KIND_EXPIRED, SkipKind.SKIP_KIND_CANCELLED, SkipKind.SKIP_KIND_DISPUTED}
_DTYPES = {"uint8", "float32", TEXT_DTYPE}
_ROUND_ZERO = {
    "run_started",
    "pool_published",
    "features_learned",
    "run_cancelled",
    "import_cleared",
    "annotators_changed",
}


def shape_fault(event: Event) -> str:
    """Describe the first fault of an event taken by itself; empty if it is valid."""
    kind = event.WhichOneof("payload")
    if not (0 <= event.recorded_at.seconds <= _LATEST_S and 0 <= event.recorded_at.nanos < 1_000_000_000):
        return "its time is none"
    if kind in _ROUND_ZERO and event.round:
        return f"{kind} belongs to round 0"
    match kind:
        case "run_started":
            started = event.run_started
            fault = _spec_fault(started.spec) or _digest_fault(started.dataset_sha256, may_lack=True)
            return fault or _imported_fault(started.imported) or _inheritance_fault(started.inheritance)
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
        case "annotators_changed":
            return _annotators_fault(event.annotators_changed)
        case "model_trained":
            model = event.model_trained
            may_lack = (model.training_state_sha256, model.head_sha256)
            fault = _digest_fault(model.model_sha256) or _digest_faults(may_lack)
            return fault or _accuracy_faults(model)
        case "auto_labels_certified":
            return _certificate_fault(event.auto_labels_certified)
        case "samples_auto_labelled":
            given = event.samples_auto_labelled
            return _uneven(given.sample_ids, given.classes, given.confidence) or _repeated(given.sample_ids)
        case "run_archived":
            return _archived_fault(event.round, event.run_archived)
        case "run_restored":
            return "" if event.run_restored.event_count else "it restores no events"
        case "run_deleted":
            return "no run is archived as often" if event.round > ARCHIVES_MAX else ""
    return ""


def _archived_fault(generation: int, archived: RunArchived) -> str:
    if generation > ARCHIVES_MAX:
        return "no run is archived as often"
    if not archived.event_count or not archived.last_sequence:
        return "its archive is empty"
    fault = _digest_fault(archived.archive_sha256) or _digest_fault(archived.model_sha256, may_lack=True)
    return fault or (_pool_fault(archived.pool) if archived.HasField("pool") else "")


def _digest_fault(digest: str, *, may_lack: bool = False) -> str:
    return "" if _DIGEST.fullmatch(digest) or (may_lack and not digest) else "an artifact in it has no SHA-256"


def _digest_faults(digests: Sequence[str]) -> str:
    """Describe the first malformed digest; empty ones are allowed."""
    return next((fault for digest in digests if (fault := _digest_fault(digest, may_lack=True))), "")


def _accuracy_faults(model: ModelTrained) -> str:
    found = (model.stopping, model.evaluation, model.control, model.control_evaluation)
    return "" if all(map(_adds_up, found)) else "an accuracy in it does not add up"


def _adds_up(accuracy: Accuracy) -> bool:
    """Return whether what is recorded by class agrees with the whole; earlier releases record nothing by class."""
    if not (accuracy.most_frequent <= accuracy.total and 0 <= accuracy.balanced <= 1):
        return False
    right, of = accuracy.class_correct, accuracy.class_total
    if len(right) != len(of) or len(of) > BY_CLASS_MAX or any(map(operator.gt, right, of)):
        return False
    whole = (accuracy.correct, accuracy.total, accuracy.most_frequent)
    return not of or (sum(right), sum(of), max(of)) == whole


def _spec_fault(spec: RunSpec) -> str:
    """Describe a value that no service could work with. Whether a run makes sense is checked before it is started."""
    if not spec.batch_size or not spec.report_every or (spec.auto_label_budget and not spec.auto_label_batch_size):
        return "a size in its spec is 0"
    if max(spec.label_budget, spec.auto_label_budget) > COUNT_MAX:
        return "a budget in its spec is larger than any pool"
    if max(spec.queue.annotators, spec.queue.annotators_max) > ANNOTATORS_MAX:
        return "its spec asks too many annotators"
    if len(spec.queue.guidelines.encode()) > GUIDELINES_BYTES_MAX:
        return "its guidelines are longer than any may be"
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
    if taken_over.given_count > len(taken_over.sample_ids):
        return "it takes over more given labels than labels"
    columns = (taken_over.sample_ids, taken_over.classes, taken_over.auto_labelled)
    return _purposes_fault(taken_over.purposes, *columns) or _repeated(taken_over.sample_ids)


def _imported_fault(imported: ImportedEvents) -> str:
    if not imported.count:
        return "it gives the digest of no events" if imported.sha256 else ""
    return _digest_fault(imported.sha256)


def _pool_fault(pool: PoolPublished) -> str:
    may_lack = (pool.evaluation_sha256, pool.graph_sha256, pool.labels_sha256, pool.duplicates_sha256)
    if fault := _digest_fault(pool.pool_sha256) or _digest_faults(may_lack):
        return fault
    if pool.duplicate_count >= max(1, pool.sample_count) or bool(pool.duplicates_sha256) != bool(pool.duplicate_count):
        return "its duplicates do not add up"
    sound = pool.sample_count and pool.classes and pool.shape and pool.dtype in _DTYPES
    if not sound or math.prod(pool.shape) > COUNT_MAX:
        return "its pool is none"
    fault = layout_fault(pool.layout, tuple(pool.shape)) if pool.HasField("layout") else ""
    return f"its samples are none: {fault}" if fault else _shown_fault(pool.shown) if pool.HasField("shown") else ""


def _shown_fault(shown: ShownPool) -> str:
    if fault := _digest_fault(shown.pool_sha256):
        return fault
    if not shown.shape or shown.dtype not in _DTYPES or math.prod(shown.shape) > COUNT_MAX:
        return "what people see of its pool is no pool"
    fault = layout_fault(shown.layout, tuple(shown.shape)) if shown.HasField("layout") else ""
    return f"what people see of its samples is none: {fault}" if fault else ""


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
    skips = {"skip": given.skip, "late_skip": given.late_skip}
    if skips.get(given.WhichOneof("answer") or "", SkipKind.SKIP_KIND_SKIPPED) not in SKIP_KINDS:
        return "it does not say why"
    sound = given.WhichOneof("answer") and (given.withdrawn or not given.HasField("withdrawn"))
    return "" if sound else "it says nothing of its sample"


def _annotators_fault(changed: AnnotatorsChanged) -> str:
    match changed.WhichOneof("change"):
        case "alias":
            names = [changed.alias.name, changed.alias.same_as]
        case "removal":
            names = [changed.removal.name]
        case "restored":
            names = [changed.restored]
        case _:
            return "it changes nothing"
    sound = all(0 < len(name) <= TEXT_CHARACTERS_MAX for name in names)
    return "" if sound else "it names nobody"


def _uneven(*columns: Sequence[object]) -> str:
    return "its columns differ in length" if len({len(column) for column in columns}) > 1 else ""


def _repeated(sample_ids: Sequence[int]) -> str:
    return "it names a sample twice" if len(set(sample_ids)) < len(sample_ids) else ""
