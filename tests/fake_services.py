"""A trainer and an oracle in memory that know one run, for tests of commands."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from labelloop.errors import LabelloopError
from labelloop.events.v1.events_pb2 import Event, LabelProvided
from labelloop.oracle.v1 import oracle_pb2
from labelloop.oracle.v1.oracle_pb2_grpc import OracleServiceServicer, add_OracleServiceServicer_to_server
from labelloop.rpc.call_metrics import CallCounts
from labelloop.rpc.handlers import guarded
from labelloop.trainer.v1 import trainer_pb2
from labelloop.trainer.v1.trainer_pb2_grpc import TrainerServiceServicer, add_TrainerServiceServicer_to_server

from oracle_svc.uploads.receiver import UploadReceiver
from tests.finding import FakeFinder
from tests.memory_uploads import MemoryUploads

PART = 2  # labels in a message


class FakeTrainer(TrainerServiceServicer):
    """Knows one run and its labels, and keeps requests to start others."""

    def __init__(self, run: trainer_pb2.RunStatus, labels: Sequence[trainer_pb2.LabelRecord] = ()) -> None:
        self.run, self.labels = run, labels
        self.started: list[trainer_pb2.StartRunRequest] = []

    async def GetRun(self, request: trainer_pb2.GetRunRequest, context: Any) -> trainer_pb2.GetRunResponse:  # noqa: N802
        return trainer_pb2.GetRunResponse(run=self.run)

    async def ListLabels(  # noqa: N802
        self, request: trainer_pb2.ListLabelsRequest, context: Any
    ) -> AsyncIterator[trainer_pb2.ListLabelsResponse]:
        for start in range(0, len(self.labels), PART):
            yield trainer_pb2.ListLabelsResponse(labels=self.labels[start : start + PART])

    async def StartRun(self, request: trainer_pb2.StartRunRequest, context: Any) -> trainer_pb2.StartRunResponse:  # noqa: N802
        self.started.append(request)
        return trainer_pb2.StartRunResponse(run=trainer_pb2.RunStatus(run_id=request.run_id, spec=request.spec))


class FakeOracle(OracleServiceServicer):
    """Names the samples of a pool, and keeps what is sent to it. Each sample of ``answered`` has a label."""

    def __init__(
        self,
        finder: FakeFinder,
        described: oracle_pb2.DescribeDatasetResponse | LabelloopError | None = None,
        answered: Sequence[int] = (),
    ) -> None:
        self.finder, self.described, self._answered = finder, described, answered
        self.requests: list[oracle_pb2.LabelRequest] = []
        self.letters: list[oracle_pb2.DeadLetter] = []
        self.sent: list[Any] = []
        self.uploads = UploadReceiver(MemoryUploads(), 10_000_000)
        self.parts_put: list[int] = []

    async def FindMissingParts(self, request: Any, context: Any) -> oracle_pb2.FindMissingPartsResponse:  # noqa: N802
        return oracle_pb2.FindMissingPartsResponse(missing=await self.uploads.missing(request.sha256))

    async def PutParts(self, request: Any, context: Any) -> oracle_pb2.PutPartsResponse:  # noqa: N802
        self.parts_put.append(len(request.parts))
        return oracle_pb2.PutPartsResponse(stored=await self.uploads.put_parts(request.parts))

    async def PutUpload(self, request: Any, context: Any) -> oracle_pb2.PutUploadResponse:  # noqa: N802
        return oracle_pb2.PutUploadResponse(upload=await self.uploads.put_upload(request))

    async def ListUploads(self, request: Any, context: Any) -> oracle_pb2.ListUploadsResponse:  # noqa: N802
        return await self.uploads.listed()

    async def RemoveUpload(self, request: Any, context: Any) -> oracle_pb2.RemoveUploadResponse:  # noqa: N802
        return oracle_pb2.RemoveUploadResponse(parts_deleted=await self.uploads.remove(request.id))

    async def FindSamples(  # noqa: N802
        self, request: oracle_pb2.FindSamplesRequest, context: Any
    ) -> AsyncIterator[oracle_pb2.FindSamplesResponse]:
        async for part in self.finder.FindSamples(request):
            yield part

    async def DescribeDataset(  # noqa: N802
        self, request: oracle_pb2.DescribeDatasetRequest, context: Any
    ) -> oracle_pb2.DescribeDatasetResponse:
        if isinstance(self.described, LabelloopError) and not request.dataset.classes:
            raise self.described
        if isinstance(self.described, oracle_pb2.DescribeDatasetResponse):
            return self.described
        return oracle_pb2.DescribeDatasetResponse(sample_count=4, classes=request.dataset.classes, dtype="uint8")

    async def ListRequests(  # noqa: N802
        self, request: oracle_pb2.ListRequestsRequest, context: Any
    ) -> AsyncIterator[oracle_pb2.LabelRequest]:
        for each in self.requests:
            yield each

    async def ListAnswers(  # noqa: N802
        self, request: oracle_pb2.ListAnswersRequest, context: Any
    ) -> oracle_pb2.ListAnswersResponse:
        if request.after_sequence:
            return oracle_pb2.ListAnswersResponse(last_sequence=request.after_sequence)
        events = [Event(round=1, label_provided=LabelProvided(sample_id=each)) for each in self._answered]
        return oracle_pb2.ListAnswersResponse(events=events, last_sequence=1)

    async def ListDeadLetters(self, request: Any, context: Any) -> oracle_pb2.ListDeadLettersResponse:  # noqa: N802
        return oracle_pb2.ListDeadLettersResponse(letters=self.letters, total=len(self.letters))

    async def SubmitLabels(self, request: Any, context: Any) -> oracle_pb2.SubmitLabelsResponse:  # noqa: N802
        self.sent.append(request)
        return oracle_pb2.SubmitLabelsResponse(recorded=len(request.labels))

    async def SubmitResults(self, request: Any, context: Any) -> oracle_pb2.SubmitResultsResponse:  # noqa: N802
        self.sent.append(request)
        return oracle_pb2.SubmitResultsResponse(recorded=len(request.results))

    async def SkipSamples(self, request: Any, context: Any) -> oracle_pb2.SkipSamplesResponse:  # noqa: N802
        self.sent.append(request)
        return oracle_pb2.SkipSamplesResponse(recorded=len(request.samples))

    async def CancelRequests(self, request: Any, context: Any) -> oracle_pb2.CancelRequestsResponse:  # noqa: N802
        self.sent.append(request)
        return oracle_pb2.CancelRequestsResponse(cancelled=len(request.sample_ids))

    async def ResendRequests(self, request: Any, context: Any) -> oracle_pb2.ResendRequestsResponse:  # noqa: N802
        self.sent.append(request)
        return oracle_pb2.ResendRequestsResponse(resent=len(request.sample_ids) or 7)


@asynccontextmanager
async def served(trainer: FakeTrainer, oracle: FakeOracle, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Serve both where commands look for them."""
    server = grpc.aio.server()
    registrar = guarded(server, CallCounts())
    add_TrainerServiceServicer_to_server(trainer, registrar)
    add_OracleServiceServicer_to_server(oracle, registrar)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    for name in ("LABELLOOP_TRAINER", "LABELLOOP_ORACLE"):
        monkeypatch.setenv(name, address)
    await server.start()
    try:
        yield
    finally:
        await server.stop(None)
