"""An in-memory oracle for the page: leases, one label per sample, and successive rounds."""

from __future__ import annotations

import asyncio
import hashlib
import io
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from labelloop.domain.ids import LeaseKey, RequestId
from labelloop.errors import LabelloopError, NotFound
from labelloop.eventlog.archived_runs import ArchivedRun, refusal
from labelloop.eventlog.run_states import RunStates
from labelloop.events.v1.events_pb2 import (
    Accuracy,
    Event,
    LabelSource,
    LabelsRequested,
    ModelTrained,
    PoolPublished,
    QueueSpec,
    RunArchived,
    RunDeleted,
    RunFinished,
    RunSpec,
    RunStarted,
)
from labelloop.oracle.v1 import oracle_pb2 as pb
from PIL import Image, ImageDraw, ImageFont

from oracle_svc.domain.labeling_state import LabelingState, is_late
from oracle_svc.domain.listed_run import ended_run
from oracle_svc.domain.open_requests import OpenRequest, for_annotator, next_revision, request_of
from oracle_svc.domain.result_validation import admit

LEARNS_S = 0.3
_PIXELS = 28


class FakeProjections:
    def __init__(self) -> None:
        self.runs = RunStates(LabelingState.begin, ended_run)
        self.archived: dict[str, ArchivedRun] = {}
        self._subscriptions: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    def get(self, run_id: str) -> LabelingState:
        if run_id in self.archived:
            raise refusal(self.archived[run_id])
        if run_id not in self.runs:
            raise NotFound("UNKNOWN_RUN", f"there is no run {run_id!r}", run_id=run_id)
        return self.runs[run_id]

    def archive(self, run_id: str, deleted: RunDeleted | None = None) -> None:
        self.runs.pop(run_id, None)
        self.archived[run_id] = ArchivedRun(run_id, 0, 1, RunArchived(), deleted=deleted)
        for subscribe in self._subscriptions[run_id]:
            subscribe.set()

    def take(self, event: Event) -> None:
        at = datetime.now(UTC)
        if event.HasField("run_started"):
            self.runs[event.run_id] = self.runs.begin(event, at)
        else:
            self.runs.apply(self.runs[event.run_id], event, at)
        for subscribe in self._subscriptions[event.run_id]:
            subscribe.set()

    def touch(self, run_id: str) -> None:
        """Notify those who watch a run, of which no event came."""
        for subscribe in self._subscriptions[run_id]:
            subscribe.set()

    @contextmanager
    def subscribe(self, run_id: str = "") -> Iterator[asyncio.Event]:
        subscribe = asyncio.Event()
        self._subscriptions[run_id].add(subscribe)
        try:
            yield subscribe
        finally:
            self._subscriptions[run_id].discard(subscribe)


@dataclass
class Lease:
    annotator: str
    until_s: float


class FakeOracle:
    """The service that the page calls. Requests are chosen and results validated by the real oracle's functions.
    ``failure``, if set, is raised by the next submission. Of the 400 samples that models are judged on,
    ``most_frequent`` are of one class; 0 if that is not known."""

    def __init__(self, projections: FakeProjections) -> None:
        self._projections = projections
        self._leases: dict[LeaseKey, Lease] = {}
        self._learning: set[asyncio.Task[None]] = set()
        self.failure: LabelloopError | None = None
        self.most_frequent = 0
        self.leased: list[tuple[str, int]] = []  # annotator and sample, in order
        self.texts: list[str] = []  # shown in turn instead of pictures
        self.text_type = "text/plain; charset=utf-8"

    def start_run(
        self,
        run_id: str = "digits",
        *,
        batch_size: int = 10,
        budget: int = 40,
        classes: tuple[str, ...] = tuple("0123456789"),
        queue: QueueSpec | None = None,
    ) -> None:
        spec = RunSpec(
            batch_size=batch_size, label_budget=budget, label_source=LabelSource.LABEL_SOURCE_QUEUE, queue=queue
        )
        pool = PoolPublished(sample_count=1000, classes=classes, description=f"Drawn digits, {run_id}.")
        self._projections.take(Event(run_id=run_id, run_started=RunStarted(spec=spec)))
        self._projections.take(Event(run_id=run_id, pool_published=pool))
        self._ask(self._projections.get(run_id), 0)

    async def LeaseNext(self, request: pb.LeaseNextRequest, context: Any) -> pb.LeaseNextResponse:  # noqa: N802
        labeling = self._projections.get(request.run_id)
        asks = list(for_annotator(labeling, request.annotator))
        mine = [ask for ask in asks if self._holder(ask.lease) == request.annotator]
        free = [ask for ask in asks if self._holder(ask.lease) is None]
        chosen = [*mine, *free][: request.count or 1]
        for ask in chosen:
            until_s = time.monotonic() + (request.lease_s or 600)
            self._leases[ask.lease] = Lease(request.annotator, until_s)
            self.leased.append((request.annotator, ask.sample_id))
        return pb.LeaseNextResponse(requests=[self._request(labeling, ask, request.annotator) for ask in chosen])

    async def SubmitResults(  # noqa: N802
        self, request: pb.SubmitResultsRequest, context: Any
    ) -> pb.SubmitResultsResponse:
        if self.failure:
            failure, self.failure = self.failure, None
            raise failure
        recorded = sum(self._take(result) for result in request.results)
        return pb.SubmitResultsResponse(recorded=recorded, repeated_count=len(request.results) - recorded)

    async def ReleaseLeases(  # noqa: N802
        self, request: pb.ReleaseLeasesRequest, context: Any
    ) -> pb.ReleaseLeasesResponse:
        mine = [key for key in self._leases if self._holder(key) == request.annotator]
        held = [key for key in mine if str(key.request) in request.request_ids]
        for key in held:
            del self._leases[key]
        return pb.ReleaseLeasesResponse(released=len(held))

    async def GetBacklog(self, request: pb.GetBacklogRequest, context: Any) -> pb.GetBacklogResponse:  # noqa: N802
        runs = [
            pb.Backlog(run_id=run_id, tool=labeling.spec.queue.tool, open=len(labeling.open))
            for run_id, labeling in self._projections.runs.items()
        ]
        return pb.GetBacklogResponse(runs=runs)

    async def answer(self, request_id: str, annotator: str, label: int) -> None:
        """Label as an annotator on another page."""
        result = pb.LabelResult(request_id=request_id, annotator=annotator, label=label)
        await self.SubmitResults(pb.SubmitResultsRequest(results=[result]), None)

    def request_ids(self) -> list[str]:
        """Ids of all leased requests."""
        return [str(key.request) for key in self._leases]

    def _holder(self, key: LeaseKey) -> str | None:
        lease = self._leases.get(key)
        return lease.annotator if lease and lease.until_s > time.monotonic() else None

    def _request(self, labeling: LabelingState, ask: OpenRequest, annotator: str) -> pb.LabelRequest:
        content, media_type = drawn_digit(ask.sample_id), "image/png"
        if self.texts:
            content, media_type = self.texts[ask.sample_id % len(self.texts)].encode(), self.text_type
        request = request_of(labeling, ask, media_type, hashlib.sha256(content).hexdigest())
        request.content = content
        request.next_revision = next_revision(labeling, ask.sample_id, annotator)
        return request

    def _take(self, result: pb.LabelResult) -> bool:
        """Record a result; False if it is a repeat, or came after its sample was settled."""
        labeling = self._projections.get(RequestId.parse(result.request_id).run_id)
        event = admit(labeling, result, "page", "results")
        if event is None:
            return False
        was_open = bool(labeling.open)
        self._projections.take(event)
        if was_open and not labeling.open:
            task = asyncio.create_task(self._learn(labeling, labeling.round))
            self._learning.add(task)
            task.add_done_callback(self._learning.discard)
        return not is_late(event.answer_given)

    async def _learn(self, labeling: LabelingState, round_: int) -> None:
        await asyncio.sleep(LEARNS_S)
        labels = len(labeling.progress.labels)
        right = round(400 * (0.92 - 0.6 * 0.97**labels - 0.01 * (round_ % 3)))
        evaluation = Accuracy(correct=right, total=400, most_frequent=self.most_frequent)
        model = ModelTrained(model_sha256="0" * 64, labels=labels, evaluation=evaluation)
        self._projections.take(Event(run_id=labeling.run_id, round=round_ + 1, model_trained=model))
        if labels < labeling.spec.label_budget:
            self._ask(labeling, round_ + 1)
        else:
            finished = RunFinished(reason="the budget is spent")
            self._projections.take(Event(run_id=labeling.run_id, round=round_ + 1, run_finished=finished))

    def _ask(self, labeling: LabelingState, round_: int) -> None:
        left = labeling.spec.label_budget - len(labeling.progress.labels)
        first = len(labeling.progress.labels) + len(labeling.answers.skipped)
        sample_ids = list(range(100 + first, 100 + first + min(left, labeling.spec.batch_size)))
        request = LabelsRequested(sample_ids=sample_ids, score=[0.0] * len(sample_ids))
        if round_:
            assert labeling.pool is not None
            classes = len(labeling.pool.classes)
            request.predicted.extend(
                (each % 10 + (each % 3 == 0)) % classes for each in sample_ids
            )  # every third is wrong
            request.confidence.extend(min(0.99, 0.18 + 0.03 * round_ + 0.025 * i) for i, _ in enumerate(sample_ids))
        self._projections.take(Event(run_id=labeling.run_id, round=round_, labels_requested=request))


def drawn_digit(sample_id: int) -> bytes:
    """A small PNG of the last digit of the sample's id."""
    image = Image.new("L", (_PIXELS, _PIXELS))
    font = ImageFont.load_default(size=24)
    place = (_PIXELS / 2 + sample_id % 3 - 1, _PIXELS / 2)
    ImageDraw.Draw(image).text(place, str(sample_id % 10), fill=235, font=font, anchor="mm")
    image = image.rotate((sample_id * 7) % 31 - 15, resample=Image.Resampling.BILINEAR)
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()
