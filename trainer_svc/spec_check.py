"""Whether a spec can be carried out, before anything is written. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from labelloop.events.v1.events_pb2 import Inheritance, LabelSource, Protocol, RunSpec
from labelloop.oracle.v1.oracle_pb2 import DescribeDatasetResponse
from labelloop.scorer.v1.scorer_pb2 import Strategy
from labelloop.wire.errors import InvalidInput

_NEEDS_NO_MODEL = {Strategy.STRATEGY_IN_ORDER, Strategy.STRATEGY_RANDOM}
_BATCH_MAX = 10_000


def check_spec(spec: RunSpec, dataset: DescribeDatasetResponse, inheritance: Inheritance) -> None:
    """InvalidInput for the first fault, naming the field."""
    for field, reason, message in _faults(spec, dataset, len(inheritance.sample_ids)):
        raise InvalidInput(reason, message, field=f"spec.{field}")


def _faults(spec: RunSpec, dataset: DescribeDatasetResponse, inherited: int) -> Iterator[tuple[str, str, str]]:
    free = dataset.sample_count - inherited
    wanted = spec.label_budget + spec.auto_label_budget
    if spec.strategy not in Strategy.values() or not spec.strategy:
        yield "strategy", "UNKNOWN_STRATEGY", "name a strategy"
    if spec.first_strategy not in _NEEDS_NO_MODEL:
        yield "first_strategy", "UNKNOWN_STRATEGY", "the first batch is chosen before any model: in order or random"
    if spec.protocol not in Protocol.values() or not spec.protocol:
        yield "protocol", "UNKNOWN_PROTOCOL", "name a protocol: published or honest"
    if not 1 <= spec.batch_size <= _BATCH_MAX:
        yield (
            "batch_size",
            "BAD_BATCH_SIZE",
            f"the batch size must lie between 1 and {_BATCH_MAX}, not {spec.batch_size}",
        )
    if not spec.label_budget and not inherited:
        yield "label_budget", "BAD_BUDGET", "the budget must be at least 1 label"
    if wanted > free:
        yield (
            "label_budget",
            "BUDGET_OVER_POOL",
            f"the budget asks for {wanted} samples ({spec.label_budget} labels, {spec.auto_label_budget} auto-labels), "
            f"but the pool has {free} left to label",
        )
    if spec.auto_label_budget and not 1 <= spec.auto_label_batch_size <= _BATCH_MAX:
        yield (
            "auto_label_batch_size",
            "BAD_BATCH_SIZE",
            f"the auto-label batch size must lie between 1 and {_BATCH_MAX}, not {spec.auto_label_batch_size}",
        )
    if not spec.report_every:
        yield (
            "report_every",
            "BAD_REPORT_EVERY",
            "accuracy must be reported in every 1st, 2nd, ... round, not every 0th",
        )
    if spec.start_scale < 0:
        yield (
            "start_scale",
            "BAD_START_SCALE",
            f"the spread of the start must not be negative, as {spec.start_scale} is",
        )
    yield from _label_faults(spec, dataset)
    yield from _protocol_faults(spec, dataset)


def _label_faults(spec: RunSpec, dataset: DescribeDatasetResponse) -> Iterator[tuple[str, str, str]]:
    if spec.label_source not in LabelSource.values() or not spec.label_source:
        yield "label_source", "UNKNOWN_LABEL_SOURCE", "name a label source: dataset or queue"
    if spec.label_source == LabelSource.LABEL_SOURCE_DATASET and not dataset.has_labels:
        yield "label_source", "NO_LABELS", "the dataset has no labels: name where they lie, or let people label (queue)"


def _protocol_faults(spec: RunSpec, dataset: DescribeDatasetResponse) -> Iterator[tuple[str, str, str]]:
    if spec.protocol != Protocol.PROTOCOL_PUBLISHED:
        return
    if not 1 <= spec.stopping_sample_count <= dataset.evaluation_count:
        yield (
            "stopping_sample_count",
            "BAD_STOPPING_SET",
            f"the published protocol stops on 1 to {dataset.evaluation_count} evaluation samples, "
            f"not {spec.stopping_sample_count}",
        )
