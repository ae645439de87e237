"""Validate the spec of a run before anything is written. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from labelloop.domain.guidelines import guidelines_fault
from labelloop.domain.limits import (
    ANNOTATORS_MAX,
    AUDIT_MAX,
    CONTROL_PERCENT_MAX,
    LEARNED,
    PATCH_FEATURES,
    SCATTERING_FEATURES,
    TEXT_DTYPE,
)
from labelloop.domain.sample_layout import stated_layout
from labelloop.domain.strategies import CHOOSE_TOGETHER, NEED_NO_MODEL, TOGETHER_AT_LEAST, TOGETHER_VALUES_MAX
from labelloop.errors import InvalidInput, LimitExceeded
from labelloop.events.v1.events_pb2 import (
    AgreementRule,
    FeatureKind,
    Inheritance,
    LabelSource,
    PoolPublished,
    Protocol,
    RunSpec,
    RunStarted,
    SampleKind,
)
from labelloop.oracle.v1.oracle_pb2 import DescribeDatasetResponse
from labelloop.scorer.v1.scorer_pb2 import Strategy

from trainer_svc.domain.guarantee import guarantee_fault
from trainer_svc.domain.stopping import stopping_faults

# The field at fault, an array that the run would need, its size in values, the largest allowed.
Amount = tuple[str, str, int, int]

BATCH_MAX = 10_000
IMAGE_SIDE_MIN = 4  # pixels
_START_SCALE_MAX = 1e6  # so that the logits of the largest samples allowed stay finite
_SPEC_BYTES_MAX = 512 * 1024
_STARTED_BYTES_MAX = 900 * 1024  # the broker takes up to a megabyte
_TEXT_FEATURES = 300
_OF_TEXTS = {FeatureKind.FEATURE_KIND_TFIDF, FeatureKind.FEATURE_KIND_GRAPH}
_OF_PICTURES = {
    FeatureKind.FEATURE_KIND_PATCHES: "patches",
    FeatureKind.FEATURE_KIND_SCATTERING: "scattering features",
}
_SAMPLE_VALUES_MAX = 2_000_000  # 8 MB of float32, sent in one request
_WEIGHTS_MAX = 8_000_000  # a model of 32 MB, sent in one message
_RANKED_MAX = 20_000_000  # samples ranked at once: about 1 GB in trainer and scorer, while rankings are merged
_LEFT_OUT_MAX = 3_700_000  # samples, of two bytes each, in a request of 8 MB; in smaller pools they take less
_INHERITED_MAX = _STARTED_BYTES_MAX // 3  # samples: each takes three bytes at least
VALUES_MAX = 500_000_000  # in one array of float32: 2 GB


def check_size(started: RunStarted) -> None:
    """Raise LimitExceeded if the spec or the whole event is too large for the event log."""
    if (spec_bytes := started.spec.ByteSize()) > _SPEC_BYTES_MAX:
        message = f"the spec takes {spec_bytes} bytes, more than {_SPEC_BYTES_MAX}: shorten names and paths"
        raise LimitExceeded("SPEC_TOO_LARGE", message, field="spec", spec_bytes=spec_bytes)
    if started.ByteSize() > _STARTED_BYTES_MAX:
        raise _too_much(started.inheritance.run_id, len(started.inheritance.sample_ids))


def check_labelled(run_id: str, count: int) -> None:
    """Raise LimitExceeded if a run with ``count`` labelled samples cannot be continued, before they are listed."""
    if count > _INHERITED_MAX:
        raise _too_much(run_id, count)


def _too_much(run_id: str, count: int) -> LimitExceeded:
    if not run_id:
        message = f"{count:,} labels are known before the run, more than it can take over: give fewer"
        return LimitExceeded("TOO_MANY_KNOWN", message, field="known", sample_count=count)
    message = f"run {run_id!r} ended with {count} samples, too many to continue it"
    return LimitExceeded("TOO_MUCH_TO_CONTINUE", message, field="continues", sample_count=count)


def check_spec(spec: RunSpec, dataset: DescribeDatasetResponse, inheritance: Inheritance) -> None:
    """Check that a run with this spec can be carried out on the dataset.

    Raises:
        InvalidInput: For the first fault, naming the field.
        LimitExceeded: If an array of the run would not fit into memory.
    """
    for field, reason, message in _faults(spec, dataset, len(inheritance.sample_ids)):
        raise InvalidInput(reason, message, field=f"spec.{field}")
    _check_inherited(inheritance, dataset)
    _check_amounts(_amounts(spec, dataset, len(inheritance.sample_ids)))


def check_classes(parent: PoolPublished, dataset: DescribeDatasetResponse) -> None:
    """Raise InvalidInput unless the dataset has the classes of the run to continue, in their order."""
    if list(parent.classes) != list(dataset.classes):
        theirs, ours = (", ".join(names[:10]) for names in (parent.classes, dataset.classes))
        message = (
            f"the run to continue has the classes {theirs}, but the dataset has {ours}: name the same, in that order"
        )
        raise InvalidInput("CLASSES_CHANGED", message, field="continues")


def _check_inherited(inheritance: Inheritance, dataset: DescribeDatasetResponse) -> None:
    field = "continues" if inheritance.run_id else "known"
    if (sample_id := max(inheritance.sample_ids, default=-1)) >= dataset.sample_count:
        message = f"sample {sample_id} has a label, but the pool's ids end at {dataset.sample_count - 1}"
        raise InvalidInput("UNKNOWN_SAMPLE", message, field=field, sample_id=sample_id)
    if (label := max(inheritance.classes, default=-1)) >= len(dataset.classes):
        message = f"class {label} of a known label is none: there are 0 to {len(dataset.classes) - 1}"
        raise InvalidInput("LABEL_RANGE", message, field=field, label=label)


def check_width(spec: RunSpec, pool: PoolPublished, inherited: int, width: int) -> None:
    """Raise LimitExceeded if ``width`` features per sample, known from the feature graph, do not fit into memory."""
    _check_amounts(_fitted(spec, len(pool.classes), inherited, width))


def _check_amounts(amounts: Iterable[Amount]) -> None:
    for field, what, values, most in amounts:
        if values > most:
            message = f"{what} would hold {values:,} values, more than {most:,}: take less"
            raise LimitExceeded("TOO_LARGE", message, field=f"spec.{field}", values=values, most=most)


def _amounts(spec: RunSpec, dataset: DescribeDatasetResponse, inherited: int) -> Iterator[Amount]:
    values, classes, evaluation_count = math.prod(dataset.shape), len(dataset.classes), dataset.evaluation_count
    if spec.features in LEARNED:
        yield "dataset", "a sample", values, _SAMPLE_VALUES_MAX
    if spec.features != FeatureKind.FEATURE_KIND_GRAPH:
        width = _width(spec, dataset)
        yield from _fitted(spec, classes, inherited, width)
        yield "dataset.evaluation", "the evaluation set", max(width + 1, classes) * evaluation_count, VALUES_MAX
    yield "dataset.evaluation", "the evaluation set", max(values, classes) * evaluation_count, VALUES_MAX
    if spec.HasField("guarantee"):  # the audit is about the order of all that is left
        yield "guarantee", "the order of the pool, for a guarantee,", dataset.sample_count, _RANKED_MAX
    if Strategy.STRATEGY_POWER_MARGIN in (spec.strategy, spec.first_strategy):
        yield "strategy", "the order of the pool, for power margin,", dataset.sample_count, _RANKED_MAX
    left_out = inherited + spec.label_budget + spec.auto_label_budget + dataset.duplicate_count
    yield "dataset", "what a ranking leaves out", min(left_out, dataset.sample_count // 16), _LEFT_OUT_MAX


def _width(spec: RunSpec, dataset: DescribeDatasetResponse) -> int:
    """Return the number of values that models see of a sample, where it is known before features are learned."""
    if spec.features == FeatureKind.FEATURE_KIND_PATCHES:
        return PATCH_FEATURES
    if spec.features == FeatureKind.FEATURE_KIND_SCATTERING:
        return SCATTERING_FEATURES
    if spec.features == FeatureKind.FEATURE_KIND_TFIDF:
        return _TEXT_FEATURES
    if spec.features == FeatureKind.FEATURE_KIND_STANDARDIZED and dataset.layout.columns:
        return sum(len(column.categories) or 1 + column.has_missing for column in dataset.layout.columns)
    return math.prod(dataset.shape)


def _fitted(spec: RunSpec, classes: int, inherited: int, width: int) -> Iterator[Amount]:
    trained_on = inherited + spec.label_budget + spec.auto_label_budget
    yield "dataset", "the model", classes * (width + 1), _WEIGHTS_MAX
    if {spec.strategy, spec.first_strategy} & CHOOSE_TOGETHER:
        batch = min(max(spec.batch_size, spec.first_batch_size), spec.label_budget)
        yield "batch_size", "what a batch is chosen from", TOGETHER_AT_LEAST * batch * width, TOGETHER_VALUES_MAX
    yield "label_budget", "the training set", max(width + 1, classes) * trained_on, VALUES_MAX


def _faults(spec: RunSpec, dataset: DescribeDatasetResponse, inherited: int) -> Iterator[tuple[str, str, str]]:
    known = inherited + len(spec.queue.gold) - dataset.repeated_count
    free = dataset.sample_count - dataset.duplicate_count - known
    wanted = spec.label_budget + spec.auto_label_budget
    if spec.strategy not in Strategy.values() or not spec.strategy:
        yield "strategy", "UNKNOWN_STRATEGY", "name a strategy"
    if spec.first_strategy not in NEED_NO_MODEL:
        message = "the first batch is chosen before any model: in order, random, k-means, typiclust or k-center"
        yield "first_strategy", "UNKNOWN_STRATEGY", message
    if spec.protocol not in Protocol.values() or not spec.protocol:
        yield "protocol", "UNKNOWN_PROTOCOL", "name a protocol: published or honest"
    if not 1 <= spec.batch_size <= BATCH_MAX:
        yield (
            "batch_size",
            "BAD_BATCH_SIZE",
            f"the batch size must lie between 1 and {BATCH_MAX}, not {spec.batch_size}",
        )
    if spec.first_batch_size > BATCH_MAX:
        message = f"the first batch must hold at most {BATCH_MAX} labels, not {spec.first_batch_size}"
        yield "first_batch_size", "BAD_BATCH_SIZE", message
    if not spec.label_budget and not inherited:
        yield "label_budget", "BAD_BUDGET", "the budget must be at least 1 label"
    if wanted > free:
        yield (
            "label_budget",
            "BUDGET_OVER_POOL",
            f"the budget asks for {wanted} samples ({spec.label_budget} labels, {spec.auto_label_budget} auto-labels), "
            f"but the pool has {free} left to label" + _equal(dataset),
        )
    if spec.auto_label_budget and not 1 <= spec.auto_label_batch_size <= BATCH_MAX:
        yield (
            "auto_label_batch_size",
            "BAD_BATCH_SIZE",
            f"the auto-label batch size must lie between 1 and {BATCH_MAX}, not {spec.auto_label_batch_size}",
        )
    if not spec.report_every:
        yield (
            "report_every",
            "BAD_REPORT_EVERY",
            "accuracy must be reported in every 1st, 2nd, ... round, not every 0th",
        )
    if not 0 <= spec.start_scale <= _START_SCALE_MAX:  # also refuses NaN
        yield (
            "start_scale",
            "BAD_START_SCALE",
            f"the spread of the start must lie between 0 and {_START_SCALE_MAX:.0e}, not {spec.start_scale}",
        )
    yield from _label_faults(spec, dataset)
    yield from _protocol_faults(spec, dataset)
    yield from _feature_faults(spec, dataset)
    yield from _evidence_faults(spec)
    if spec.HasField("guarantee"):
        yield from _guarantee_faults(spec, free - spec.label_budget)


def _equal(dataset: DescribeDatasetResponse) -> str:
    return f": {dataset.duplicate_count} equal an earlier one and share its label" if dataset.duplicate_count else ""


def _feature_faults(spec: RunSpec, dataset: DescribeDatasetResponse) -> Iterator[tuple[str, str, str]]:
    if spec.features not in FeatureKind.values():
        yield "features", "UNKNOWN_FEATURES", "name features: pixels, patches, scattering, standardized, tfidf or graph"
    plain = spec.features in (FeatureKind.FEATURE_KIND_UNSPECIFIED, FeatureKind.FEATURE_KIND_PIXELS)
    if plain and any(column.categories or column.has_missing for column in dataset.layout.columns):
        message = "models cannot see categories and missing values as they are: choose features: standardized, or auto"
        yield "features", "NEEDS_FEATURES", message
    if spec.features in LEARNED and spec.protocol == Protocol.PROTOCOL_PUBLISHED:
        yield "features", "NOT_AS_PUBLISHED", "the published protocol sees pixels: choose features: pixels, or honest"
    if dataset.dtype == TEXT_DTYPE and spec.features not in _OF_TEXTS:
        yield "features", "NO_IMAGES", "samples are texts: choose features: tfidf, or bring a graph"
    if spec.features in _OF_PICTURES and not _has_pictures(dataset):
        shape = "x".join(map(str, dataset.shape))
        message = (
            f"{_OF_PICTURES[spec.features]} are learned from pictures of {IMAGE_SIDE_MIN} x {IMAGE_SIDE_MIN} pixels at "
            f"least, but samples are {shape} {dataset.dtype}, and not such pictures: choose auto, or bring a graph"
        )
        yield "features", "NO_IMAGES", message
    if dataset.dtype != TEXT_DTYPE and spec.features == FeatureKind.FEATURE_KIND_TFIDF:
        message = f"tfidf counts words, but samples are {dataset.dtype}: choose pixels, or name the column of texts"
        yield "features", "NO_TEXTS", message
    if (spec.features == FeatureKind.FEATURE_KIND_GRAPH) != dataset.has_graph:
        message = "features come from a graph where, and only where, the dataset names one: give both or none"
        yield "features", "NO_GRAPH", message


def _has_pictures(dataset: DescribeDatasetResponse) -> bool:
    layout = stated_layout(dataset)
    return layout.kind == SampleKind.SAMPLE_KIND_IMAGE and min(layout.height, layout.width) >= IMAGE_SIDE_MIN


def _evidence_faults(spec: RunSpec) -> Iterator[tuple[str, str, str]]:
    if spec.control_percent and spec.protocol == Protocol.PROTOCOL_PUBLISHED:
        message = "the published protocol asks for what its strategy chooses: leave control out, or choose honest"
        yield "control_percent", "NOT_AS_PUBLISHED", message
    if spec.control_percent > CONTROL_PERCENT_MAX:
        message = f"at most {CONTROL_PERCENT_MAX} in a hundred are drawn at random, not {spec.control_percent}"
        yield "control_percent", "BAD_CONTROL", message
    for field, message in stopping_faults(spec.stopping):
        yield f"stopping.{field}", "BAD_STOPPING", message
    if spec.HasField("stopping") and spec.protocol == Protocol.PROTOCOL_PUBLISHED:
        yield "stopping", "NOT_AS_PUBLISHED", "the published protocol ends with its budget: leave stopping out"


def _guarantee_faults(spec: RunSpec, candidates: int) -> Iterator[tuple[str, str, str]]:
    guarantee = spec.guarantee
    if spec.protocol == Protocol.PROTOCOL_PUBLISHED or spec.auto_label_budget or not spec.label_budget:
        message = "a guarantee is for a run of the honest protocol with a label budget and no auto-label budget"
        yield "guarantee", "BAD_GUARANTEE", message
    elif guarantee.audit_size > AUDIT_MAX:
        message = f"at most {AUDIT_MAX} samples can be audited, not {guarantee.audit_size}"
        yield "guarantee.audit_size", "BAD_GUARANTEE", message
    elif fault := guarantee_fault(guarantee.target_accuracy, guarantee.confidence, guarantee.audit_size, candidates):
        yield "guarantee", "BAD_GUARANTEE", fault


def _label_faults(spec: RunSpec, dataset: DescribeDatasetResponse) -> Iterator[tuple[str, str, str]]:
    if spec.label_source not in LabelSource.values() or not spec.label_source:
        yield "label_source", "UNKNOWN_LABEL_SOURCE", "name a label source: dataset or queue"
    if spec.label_source == LabelSource.LABEL_SOURCE_DATASET and dataset.partly_known_count:
        missing = dataset.sample_count - dataset.partly_known_count
        message = (
            f"{missing:,} of {dataset.sample_count:,} samples have no label in the dataset, and it would be asked for "
            "them: let people label (queue), or leave those samples out of the pool"
        )
        yield "label_source", "PARTLY_LABELLED", message
    elif spec.label_source == LabelSource.LABEL_SOURCE_DATASET and not dataset.has_labels:
        yield "label_source", "NO_LABELS", "the dataset has no labels: name where they lie, or let people label (queue)"
    if spec.HasField("queue"):
        yield from _queue_faults(spec, dataset)


def _queue_faults(spec: RunSpec, dataset: DescribeDatasetResponse) -> Iterator[tuple[str, str, str]]:
    queue = spec.queue
    if spec.label_source != LabelSource.LABEL_SOURCE_QUEUE:
        yield (
            "queue",
            "NOT_A_QUEUE",
            "the dataset answers, so that nobody is asked: leave the queue out",
        )
    if queue.tool and queue.tool not in dataset.tools:
        there = ", ".join(dataset.tools) or "none: see the configuration of the oracle"
        yield "queue.tool", "UNKNOWN_TOOL", f"the oracle is not connected to a tool {queue.tool!r}; it is to {there}"
    if queue.annotators > ANNOTATORS_MAX or queue.annotators_max > ANNOTATORS_MAX:
        yield "queue.annotators", "TOO_MANY_ANNOTATORS", f"ask at most {ANNOTATORS_MAX} annotators for a sample"
    if queue.annotators_max and queue.annotators_max < (queue.annotators or 1):
        yield "queue.annotators_max", "BAD_ANNOTATORS", "at most as many annotators may be asked as are asked at first"
    if queue.agreement not in AgreementRule.values():
        yield "queue.agreement", "UNKNOWN_AGREEMENT", "name a rule of agreement: majority or dawid-skene"
    if fault := guidelines_fault(queue.guidelines):
        yield "queue.guidelines", "BAD_GUIDELINES", fault
    yield from _gold_faults(spec, dataset)


def _gold_faults(spec: RunSpec, dataset: DescribeDatasetResponse) -> Iterator[tuple[str, str, str]]:
    gold = [sample.sample_id for sample in spec.queue.gold]
    if len(set(gold)) < len(gold):
        yield "queue.gold", "GOLD_TWICE", "a gold sample is named twice"
    if max(gold, default=0) >= dataset.sample_count:
        yield "queue.gold", "BAD_GOLD", f"gold sample {max(gold)} lies outside the pool of {dataset.sample_count}"
    if max((sample.label for sample in spec.queue.gold), default=0) >= len(dataset.classes):
        yield "queue.gold", "BAD_GOLD", f"a gold sample is of a class beyond the {len(dataset.classes)} there are"


def _protocol_faults(spec: RunSpec, dataset: DescribeDatasetResponse) -> Iterator[tuple[str, str, str]]:
    if spec.protocol != Protocol.PROTOCOL_PUBLISHED:
        return
    if spec.balance_classes:
        message = "in the published protocol every label weighs the same: leave balance_classes out, or choose honest"
        yield "balance_classes", "NOT_AS_PUBLISHED", message
    if not 1 <= spec.stopping_sample_count <= dataset.evaluation_count:
        yield (
            "stopping_sample_count",
            "BAD_STOPPING_SET",
            f"the published protocol stops on 1 to {dataset.evaluation_count} evaluation samples, "
            f"not {spec.stopping_sample_count}",
        )
