"""OracleService: what clients may know of datasets, and the labels that people give."""

from __future__ import annotations

from collections.abc import Sequence

from labelloop.events.v1.events_pb2 import LabelSource
from labelloop.oracle.v1 import oracle_pb2 as pb
from labelloop.oracle.v1.oracle_pb2_grpc import OracleServiceServicer
from labelloop.wire.errors import InvalidInput, WrongState
from labelloop.wire.eventlog import EventLog
from labelloop.wire.run_book import RunBook
from labelloop.wire.serving import Context

from oracle_svc.desk import Desk
from oracle_svc.requests import append_labels
from oracle_svc.shelf import Shelf

_SOURCE = "queue"
_ANNOTATOR_CHARACTERS_MAX = 200


class OracleService(OracleServiceServicer):
    def __init__(self, book: RunBook[Desk], log: EventLog, shelf: Shelf) -> None:
        self._book, self._log, self._shelf = book, log, shelf

    async def DescribeDataset(self, request: pb.DescribeDatasetRequest, context: Context) -> pb.DescribeDatasetResponse:
        dataset = await self._shelf.get(request.dataset)
        evaluation = dataset.evaluation_labels
        return pb.DescribeDatasetResponse(
            sample_count=len(dataset.samples),
            shape=dataset.samples.shape[1:],
            dtype=dataset.samples.dtype.name,
            classes=dataset.classes,
            has_labels=dataset.labels is not None,
            evaluation_count=0 if evaluation is None else len(evaluation),
            description=dataset.description,
            stand_in=dataset.stand_in,
        )

    async def ListOpenSamples(self, request: pb.ListOpenSamplesRequest, context: Context) -> pb.ListOpenSamplesResponse:
        desks = [self._book.get(request.run_id)] if request.run_id else list(self._book.runs.values())
        samples = [
            pb.OpenSample(run_id=desk.run_id, round=round_, sample_id=sample_id, pool_sha256=desk.pool.pool_sha256)
            for desk in desks
            if desk.pool and desk.spec.label_source == LabelSource.LABEL_SOURCE_QUEUE
            for sample_id, round_ in desk.open.items()
        ]
        return pb.ListOpenSamplesResponse(samples=samples)

    async def SubmitLabels(self, request: pb.SubmitLabelsRequest, context: Context) -> pb.SubmitLabelsResponse:
        desk = self._book.get(request.run_id)
        _check_annotator(request.annotator)
        _check_labels(desk, request.labels)
        new = [label for label in request.labels if label.sample_id in desk.open]
        answers = [(desk.open[label.sample_id], label.sample_id, label.label) for label in new]
        standing = await append_labels(self._log, desk.run_id, _SOURCE, request.annotator, answers)
        if standing:
            await self._book.reach(max(recorded.sequence for recorded in standing))
        recorded_count = sum(recorded.ours for recorded in standing)
        return pb.SubmitLabelsResponse(recorded=recorded_count, repeated_count=len(request.labels) - recorded_count)


def _check_annotator(annotator: str) -> None:
    if len(annotator) > _ANNOTATOR_CHARACTERS_MAX:
        most = _ANNOTATOR_CHARACTERS_MAX
        message = f"the annotator's name has {len(annotator)} characters: shorten it to {most}"
        raise InvalidInput("ANNOTATOR_TOO_LONG", message, field="annotator", characters=len(annotator), most=most)


def _check_labels(desk: Desk, labels: Sequence[pb.SubmittedLabel]) -> None:
    """All or none: the first fault refuses them all."""
    if desk.pool is None:
        raise WrongState("POOL_MISSING", f"run {desk.run_id!r} has no pool yet", run_id=desk.run_id)
    if desk.spec.label_source != LabelSource.LABEL_SOURCE_QUEUE:
        message = f"run {desk.run_id!r} gets its labels from its dataset, not from people"
        raise WrongState("NOT_A_QUEUE", message, run_id=desk.run_id)
    seen: set[int] = set()
    for label in labels:
        sample_id, class_count = label.sample_id, len(desk.pool.classes)
        if label.label >= class_count:
            message = f"class {label.label} of sample {sample_id} lies outside the classes 0 to {class_count - 1}"
            raise InvalidInput("UNKNOWN_CLASS", message, field="labels", sample_id=sample_id, label=label.label)
        if sample_id not in desk.open and sample_id not in desk.answered:
            message = f"run {desk.run_id!r} does not ask for sample {sample_id}"
            raise InvalidInput("NOT_ASKED_FOR", message, field="labels", sample_id=sample_id)
        if sample_id in seen:
            message = f"sample {sample_id} is labelled twice in one submission"
            raise InvalidInput("LABELLED_TWICE", message, field="labels", sample_id=sample_id)
        seen.add(sample_id)
