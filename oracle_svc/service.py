"""OracleService: what clients may know of datasets, and what people answer."""

from __future__ import annotations

from collections.abc import Sequence

from labelloop.events.v1.events_pb2 import Event, LabelProvided, LabelSource, SampleSkipped
from labelloop.oracle.v1 import oracle_pb2 as pb
from labelloop.oracle.v1.oracle_pb2_grpc import OracleServiceServicer
from labelloop.wire.errors import InvalidInput, WrongState
from labelloop.wire.eventlog import EventLog
from labelloop.wire.run_book import RunBook
from labelloop.wire.run_rules import SKIP_KINDS
from labelloop.wire.serving import Context

from oracle_svc.desk import Desk
from oracle_svc.requests import append_answers
from oracle_svc.shelf import Shelf

_SOURCE = "queue"
_ANNOTATOR_CHARACTERS_MAX, _COMMENT_CHARACTERS_MAX = 200, 1_000


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
        desk = self._desk(request.run_id, request.annotator)
        _check_asked_for(desk, "labels", [label.sample_id for label in request.labels])
        _check_classes(desk, request.labels)
        recorded = await self._record(
            [
                Event(
                    run_id=desk.run_id,
                    round=desk.open[label.sample_id],
                    label_provided=LabelProvided(
                        sample_id=label.sample_id, label=label.label, source=_SOURCE, annotator=request.annotator
                    ),
                )
                for label in request.labels
                if label.sample_id in desk.open
            ]
        )
        return pb.SubmitLabelsResponse(recorded=recorded, repeated_count=len(request.labels) - recorded)

    async def SkipSamples(self, request: pb.SkipSamplesRequest, context: Context) -> pb.SkipSamplesResponse:
        desk = self._desk(request.run_id, request.annotator)
        _check_asked_for(desk, "samples", [sample.sample_id for sample in request.samples])
        _check_reasons(request.samples)
        recorded = await self._record(
            [
                Event(
                    run_id=desk.run_id,
                    round=desk.open[sample.sample_id],
                    sample_skipped=SampleSkipped(
                        sample_id=sample.sample_id,
                        kind=sample.kind,
                        source=_SOURCE,
                        annotator=request.annotator,
                        comment=sample.comment,
                    ),
                )
                for sample in request.samples
                if sample.sample_id in desk.open
            ]
        )
        return pb.SkipSamplesResponse(recorded=recorded, repeated_count=len(request.samples) - recorded)

    def _desk(self, run_id: str, annotator: str) -> Desk:
        """A run that people label, as its annotator asks for it."""
        desk = self._book.get(run_id)
        if len(annotator) > _ANNOTATOR_CHARACTERS_MAX:
            most = _ANNOTATOR_CHARACTERS_MAX
            message = f"the annotator's name has {len(annotator)} characters: shorten it to {most}"
            raise InvalidInput("ANNOTATOR_TOO_LONG", message, field="annotator", characters=len(annotator), most=most)
        if desk.pool is None:
            raise WrongState("POOL_MISSING", f"run {run_id!r} has no pool yet", run_id=run_id)
        if desk.spec.label_source != LabelSource.LABEL_SOURCE_QUEUE:
            message = f"run {run_id!r} gets its labels from its dataset, not from people"
            raise WrongState("NOT_A_QUEUE", message, run_id=run_id)
        return desk

    async def _record(self, answers: Sequence[Event]) -> int:
        """How many of them are recorded now: others came first where somebody else answered meanwhile."""
        standing = await append_answers(self._log, answers)
        if standing:
            await self._book.reach(max(recorded.sequence for recorded in standing))
        return sum(recorded.ours for recorded in standing)


def _check_asked_for(desk: Desk, field: str, sample_ids: Sequence[int]) -> None:
    """All or none: the first fault refuses them all."""
    seen: set[int] = set()
    for sample_id in sample_ids:
        if sample_id not in desk.open and sample_id not in desk.answered:
            message = f"run {desk.run_id!r} does not ask for sample {sample_id}"
            raise InvalidInput("NOT_ASKED_FOR", message, field=field, sample_id=sample_id)
        if sample_id in seen:
            message = f"sample {sample_id} is answered twice in one submission"
            raise InvalidInput("ANSWERED_TWICE", message, field=field, sample_id=sample_id)
        seen.add(sample_id)


def _check_classes(desk: Desk, labels: Sequence[pb.SubmittedLabel]) -> None:
    assert desk.pool is not None, "checked before"
    class_count = len(desk.pool.classes)
    for label in labels:
        if label.label >= class_count:
            message = f"class {label.label} of sample {label.sample_id} lies outside the classes 0 to {class_count - 1}"
            raise InvalidInput("UNKNOWN_CLASS", message, field="labels", sample_id=label.sample_id, label=label.label)


def _check_reasons(samples: Sequence[pb.SkippedSample]) -> None:
    for sample in samples:
        if sample.kind not in SKIP_KINDS:
            message = f"say why sample {sample.sample_id} is skipped: skipped, or rejected"
            raise InvalidInput("NO_SKIP_KIND", message, field="samples", sample_id=sample.sample_id)
        if len(sample.comment) > _COMMENT_CHARACTERS_MAX:
            message = f"the comment on sample {sample.sample_id} is longer than {_COMMENT_CHARACTERS_MAX} characters"
            raise InvalidInput("COMMENT_TOO_LONG", message, field="samples", sample_id=sample.sample_id)
