"""An oracle in memory: leases, one label for each sample, and rounds that follow each other."""

from __future__ import annotations

import asyncio
import hashlib
import io
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from labelloop.events.v1.events_pb2 import (
    Accuracy,
    Event,
    LabelProvided,
    LabelSource,
    LabelsRequested,
    LabelWithdrawn,
    ModelTrained,
    PoolPublished,
    QueueSpec,
    RunFinished,
    RunSpec,
    RunStarted,
    SampleSkipped,
)
from labelloop.oracle.v1 import oracle_pb2 as pb
from labelloop.wire.errors import InvalidInput, LabelloopError, NotFound, WrongState
from PIL import Image, ImageDraw, ImageFont

from oracle_svc.web.progress import Progress

LEARNS_S = 0.3
_PIXELS = 28


@dataclass
class FakeDesk:
    """A run, as far as the page goes."""

    run_id: str
    spec: RunSpec
    progress: Progress
    pool: PoolPublished | None = None
    open: dict[int, int] = field(default_factory=dict)
    over: bool = False

    def apply(self, event: Event, at: datetime) -> None:
        self.progress.apply(event, at)
        match event.WhichOneof("payload"):
            case "pool_published":
                self.pool = event.pool_published
            case "labels_requested":
                self.open = dict.fromkeys(event.labels_requested.sample_ids, event.round)
            case "label_provided":
                self.open.pop(event.label_provided.sample_id, None)
            case "sample_skipped":
                self.open.pop(event.sample_skipped.sample_id, None)
            case "label_withdrawn":
                self.open[event.label_withdrawn.sample_id] = event.round
            case "run_finished":
                self.over = True


class FakeBook:
    def __init__(self) -> None:
        self.runs: dict[str, FakeDesk] = {}
        self._bells: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    def get(self, run_id: str) -> FakeDesk:
        if run_id not in self.runs:
            raise NotFound("UNKNOWN_RUN", f"there is no run {run_id!r}", run_id=run_id)
        return self.runs[run_id]

    def take(self, event: Event) -> None:
        at = datetime.now(UTC)
        if event.HasField("run_started"):
            spec = event.run_started.spec
            self.runs[event.run_id] = FakeDesk(event.run_id, spec, Progress.begin(event, at))
        else:
            self.runs[event.run_id].apply(event, at)
        for bell in self._bells[event.run_id]:
            bell.set()

    @contextmanager
    def bell(self, run_id: str = "") -> Iterator[asyncio.Event]:
        bell = asyncio.Event()
        self._bells[run_id].add(bell)
        try:
            yield bell
        finally:
            self._bells[run_id].discard(bell)


@dataclass
class Lease:
    annotator: str
    until_s: float


class FakeOracle:
    """The page's Service. ``failure``, where set, is raised by the next answer."""

    def __init__(self, book: FakeBook) -> None:
        self._book = book
        self._leases: dict[tuple[str, int], Lease] = {}
        self._said: set[tuple[str, str, int]] = set()
        self._givers: dict[tuple[str, int], str] = {}
        self._learning: set[asyncio.Task[None]] = set()
        self.failure: LabelloopError | None = None
        self.leased: list[tuple[str, int]] = []  # annotator and sample, as they were given out

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
        self._book.take(Event(run_id=run_id, run_started=RunStarted(spec=spec)))
        self._book.take(Event(run_id=run_id, pool_published=pool))
        self._ask(self._book.get(run_id), 0)

    async def LeaseNext(self, request: pb.LeaseNextRequest, context: Any) -> pb.LeaseNextResponse:  # noqa: N802
        desk = self._book.get(request.run_id)
        mine = [each for each in desk.open if self._holder(desk.run_id, each) == request.annotator]
        free = [each for each in desk.open if self._holder(desk.run_id, each) is None]
        chosen = [*mine, *free][: request.count or 1]
        for each in chosen:
            until_s = time.monotonic() + (request.lease_s or 600)
            self._leases[desk.run_id, each] = Lease(request.annotator, until_s)
            self.leased.append((request.annotator, each))
        return pb.LeaseNextResponse(requests=[self._request(desk, each) for each in chosen])

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
        keys = [(each.split("/")[0], int(each.split("/")[2])) for each in request.request_ids]
        held = [key for key in keys if self._holder(*key) == request.annotator]
        for key in held:
            del self._leases[key]
        return pb.ReleaseLeasesResponse(released=len(held))

    async def GetBacklog(self, request: pb.GetBacklogRequest, context: Any) -> pb.GetBacklogResponse:  # noqa: N802
        runs = [
            pb.Backlog(run_id=run_id, tool=desk.spec.queue.tool, open=len(desk.open))
            for run_id, desk in self._book.runs.items()
        ]
        return pb.GetBacklogResponse(runs=runs)

    def request_ids(self) -> list[str]:
        """Of all that is held by somebody."""
        return [f"{run_id}/{self._book.get(run_id).open[sample]}/{sample}/0" for run_id, sample in self._leases]

    def _holder(self, run_id: str, sample_id: int) -> str | None:
        lease = self._leases.get((run_id, sample_id))
        return lease.annotator if lease and lease.until_s > time.monotonic() else None

    def _request(self, desk: FakeDesk, sample_id: int) -> pb.LabelRequest:
        assert desk.pool is not None
        round_ = desk.open[sample_id]
        content = drawn_digit(sample_id)
        opinion = desk.progress.opinions.get(sample_id)
        prediction = pb.Prediction(label=opinion.label, confidence=opinion.confidence) if opinion else None
        return pb.LabelRequest(
            request_id=f"{desk.run_id}/{round_}/{sample_id}/0",
            run_id=desk.run_id,
            round=round_,
            sample_id=sample_id,
            media_type="image/png",
            content=content,
            sha256=hashlib.sha256(content).hexdigest(),
            classes=desk.pool.classes,
            prediction=None if desk.spec.queue.hide_predictions else prediction,
            annotator_count=1,
        )

    def _take(self, result: pb.LabelResult) -> bool:
        """Whether it is recorded now."""
        run_id, round_text, sample_text, _ = result.request_id.split("/")
        desk, sample_id, round_ = self._book.get(run_id), int(sample_text), int(round_text)
        said = (result.request_id, result.annotator, result.revision)
        if said in self._said:
            return False
        event = Event(run_id=run_id, round=round_)
        key = run_id, sample_id
        match result.WhichOneof("answer"):
            case "withdrawn":
                if self._givers.get(key) != result.annotator or not desk.open:
                    raise WrongState("BATCH_CLOSED", "its round is over")
                given = LabelWithdrawn(sample_id=sample_id, revision=result.revision, annotator=result.annotator)
                event.label_withdrawn.CopyFrom(given)
                del self._givers[key]
                self._leases[key] = Lease(result.annotator, time.monotonic() + 300)
            case answer if sample_id not in desk.open:
                if sample_id not in desk.progress.opinions and answer is None:
                    raise InvalidInput("NOT_ASKED_FOR", f"run {run_id!r} does not ask for sample {sample_id}")
                return False
            case "label":
                label = LabelProvided(sample_id=sample_id, label=result.label, annotator=result.annotator)
                event.label_provided.CopyFrom(label)
                self._givers[key] = result.annotator
            case "skip":
                skipped = SampleSkipped(sample_id=sample_id, kind=result.skip, annotator=result.annotator)
                event.sample_skipped.CopyFrom(skipped)
                self._givers[key] = result.annotator
            case _:
                raise InvalidInput("NO_ANSWER", "say a label, a skip, or a withdrawal")
        self._said.add(said)
        self._book.take(event)
        if not desk.open:
            task = asyncio.create_task(self._learn(desk, round_))
            self._learning.add(task)
            task.add_done_callback(self._learning.discard)
        return True

    async def _learn(self, desk: FakeDesk, round_: int) -> None:
        await asyncio.sleep(LEARNS_S)
        labels = len(desk.progress.labels)
        right = round(400 * (0.92 - 0.6 * 0.97**labels - 0.01 * (round_ % 3)))
        model = ModelTrained(model_sha256="0" * 64, labels=labels, evaluation=Accuracy(correct=right, total=400))
        self._book.take(Event(run_id=desk.run_id, round=round_ + 1, model_trained=model))
        if labels < desk.spec.label_budget:
            self._ask(desk, round_ + 1)
        else:
            finished = RunFinished(reason="the budget is spent")
            self._book.take(Event(run_id=desk.run_id, round=round_ + 1, run_finished=finished))

    def _ask(self, desk: FakeDesk, round_: int) -> None:
        left = desk.spec.label_budget - len(desk.progress.labels)
        first = len(desk.progress.labels) + len(desk.progress.skipped)
        sample_ids = list(range(100 + first, 100 + first + min(left, desk.spec.batch_size)))
        request = LabelsRequested(sample_ids=sample_ids, score=[0.0] * len(sample_ids))
        if round_:
            assert desk.pool is not None
            classes = len(desk.pool.classes)
            request.predicted.extend(
                (each % 10 + (each % 3 == 0)) % classes for each in sample_ids
            )  # every third is wrong
            request.confidence.extend(min(0.99, 0.18 + 0.03 * round_ + 0.025 * i) for i, _ in enumerate(sample_ids))
        self._book.take(Event(run_id=desk.run_id, round=round_, labels_requested=request))


def drawn_digit(sample_id: int) -> bytes:
    """A PNG of a small digit, the last of the sample's id."""
    image = Image.new("L", (_PIXELS, _PIXELS))
    font = ImageFont.load_default(size=24)
    place = (_PIXELS / 2 + sample_id % 3 - 1, _PIXELS / 2)
    ImageDraw.Draw(image).text(place, str(sample_id % 10), fill=235, font=font, anchor="mm")
    image = image.rotate((sample_id * 7) % 31 - 15, resample=Image.Resampling.BILINEAR)
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()
