"""Serve the trainer's gRPC API: start, watch, cancel, export and import runs; get labels and models."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING

import grpc
from labelloop.artifacts.leftovers import Leftovers
from labelloop.artifacts.store import ArtifactStore
from labelloop.domain.limits import RESOLUTION_VERSION
from labelloop.errors import InvalidInput, NotFound, Unready, WrongState, from_rpc
from labelloop.eventlog.archived_runs import ArchivedRun
from labelloop.eventlog.log import EventLog
from labelloop.eventlog.projections import RunProjections
from labelloop.eventlog.subjects import check_run_id
from labelloop.events.v1.events_pb2 import DatasetSource, Event, Inheritance, Purpose, RunCancelled, RunSpec, RunStarted
from labelloop.oracle.v1.oracle_pb2 import DescribeDatasetRequest, DescribeDatasetResponse
from labelloop.rpc.server import Context
from labelloop.runtime.crash_points import crash_point
from labelloop.trainer.v1 import trainer_pb2 as pb
from labelloop.trainer.v1.trainer_pb2_grpc import TrainerServiceServicer

from trainer_svc.archiving import Archiving
from trainer_svc.artifact_sweep import ArtifactSweep
from trainer_svc.domain.run_state import RunState
from trainer_svc.domain.spec_validation import check_classes, check_labelled, check_size, check_spec
from trainer_svc.imports.clearing import clear_import
from trainer_svc.imports.limits import ImportLimits
from trainer_svc.imports.run_import import RunImport
from trainer_svc.known_labels import given_labels, take_over_known
from trainer_svc.model.described_model import described
from trainer_svc.past_runs import PastRuns, listed_status, without_guidelines
from trainer_svc.run_archive import RunArchive, without_import
from trainer_svc.status import SERVICE, label_records, round_result, status_of

if TYPE_CHECKING:
    from labelloop.oracle.v1.oracle_pb2_grpc import OracleServiceAsyncStub

_DATASET_TIMEOUT_S = 3_600.0  # of terabytes, or of a pool elsewhere; an oracle that is dead is noticed in seconds
_WATCH_PAUSE_S = 0.05
_LABELS_PART = 1_000
_REASON_CHARACTERS_MAX = 1_000
_DEFAULT_LIMITS = ImportLimits()


class TrainerService(TrainerServiceServicer):
    def __init__(
        self,
        projections: RunProjections[RunState],
        log: EventLog,
        artifacts: ArtifactStore,
        oracle: OracleServiceAsyncStub,
        leftovers: Leftovers | None = None,
        import_limits: ImportLimits = _DEFAULT_LIMITS,
    ) -> None:
        self._projections, self._log, self._artifacts, self._oracle = projections, log, artifacts, oracle
        self._ledger, self._past_runs = RunArchive(projections, log, artifacts), PastRuns(projections, artifacts)
        self._archiving = Archiving(projections, log, artifacts, self._past_runs)
        self._import = RunImport(projections, log, artifacts, self._ledger, import_limits)
        self._sweep = ArtifactSweep(leftovers, projections, self._ledger) if leftovers else None

    async def StartRun(self, request: pb.StartRunRequest, context: Context) -> pb.StartRunResponse:
        run_id = check_run_id(request.run_id or _new_run_id())
        await self._check_no_import(run_id)
        started = RunStarted(spec=request.spec)
        started.imported.SetInParent()
        _set_resolution_version(started.spec)
        if request.continues and request.known:
            message = "a run takes over labels from another, or has known ones of its own, not both"
            raise InvalidInput("KNOWN_WITH_CONTINUES", message, field="known")
        if archived := self._projections.archived.runs.get(run_id):
            raise _taken(archived)
        parent = await self._past_runs.state(request.continues) if request.continues else None
        started.inheritance.MergeFrom(given_labels(request))
        if parent:
            started.inheritance.CopyFrom(_inheritance(parent))
            if not request.spec.dataset.name:
                started.spec.dataset.CopyFrom(_continued(parent.spec.dataset, request.spec.dataset))
        await self._check(started, parent)
        recorded = await self._log.append_once(Event(run_id=run_id, round=0, run_started=started))
        if recorded.event is None or not _same_start(recorded.event.run_started, started):
            raise _exists(run_id, recorded.event, started)
        await self._projections.wait_for(recorded.sequence)
        if archived := self._projections.archived.runs.get(run_id):  # before this trainer knew of it
            raise _taken(archived)
        return pb.StartRunResponse(run=self._status(run_id))

    async def _check_no_import(self, run_id: str) -> None:
        """Raise WrongState if events stand under ``run_id`` that are no run: they would take the new run's subjects."""
        await self._projections.wait_for(await self._log.newest(run_id))
        beginnings = self._projections.beginnings
        if run_id in beginnings.cleared:
            message = f"an import of run {run_id!r} was given up, and its id is not used again: choose another run id"
            raise WrongState("RUN_EXISTS", message, field="run_id", run_id=run_id)
        if beginnings.unfinished(run_id):
            message = (
                f"an import of run {run_id!r} is under way or was cut short: choose another run id, or import its file "
                "again to complete it"
            )
            raise WrongState("RUN_EXISTS", message, field="run_id", run_id=run_id)

    async def _check(self, started: RunStarted, parent: RunState | None) -> None:
        """Check the spec against its dataset, and pin the dataset's content in ``started``.

        Inherited samples are found in the dataset: their ids are those of the parent's pool before and of this run's
        after.
        """
        check_size(started)
        gold = [sample.sample_id for sample in started.spec.queue.gold]
        request = DescribeDatasetRequest(dataset=started.spec.dataset, known_ids=gold)
        if parent and parent.pool:
            request.pool_sha256 = parent.pool.pool_sha256
            request.sample_ids.extend(started.inheritance.sample_ids)
        else:
            request.known_ids.extend(started.inheritance.sample_ids)
        dataset = await self._described(request)
        if parent and parent.pool:
            check_classes(parent.pool, dataset)
            del started.inheritance.sample_ids[:]
            started.inheritance.sample_ids.extend(dataset.found_ids)
        started.dataset_sha256 = dataset.dataset_sha256
        take_over_known(started, dataset)
        check_size(started)
        check_spec(started.spec, dataset, started.inheritance)

    async def _described(self, request: DescribeDatasetRequest) -> DescribeDatasetResponse:
        crash_point("before call DescribeDataset")
        try:
            dataset = await self._oracle.DescribeDataset(request, timeout=_DATASET_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            away = Unready("ORACLE_AWAY", f"the oracle service does not answer: {error.details()}", retry_after_s=1)
            fault = from_rpc(error) or away
            fault.field = f"spec.{fault.field}" if fault.field.startswith("dataset") else fault.field
            raise fault from error
        crash_point("after call DescribeDataset")
        return dataset

    async def GetRun(self, request: pb.GetRunRequest, context: Context) -> pb.GetRunResponse:
        state = await self._past_runs.state(request.run_id)
        rounds = [
            round_result(trained, state.planned_rounds, by_class=trained is state.models[-1])
            for trained in state.models
        ]
        return pb.GetRunResponse(run=self._status_of(state), rounds=rounds)

    async def ListRuns(self, request: pb.ListRunsRequest, context: Context) -> pb.ListRunsResponse:
        if request.archived:
            runs, more = self._past_runs.listed(request.after, request.limit)
        else:
            runs, more = self._listed(request.after, request.limit)
        unfinished = [
            pb.UnfinishedImport(
                run_id=each.run_id, events=each.events, events_expected=each.expected, damaged=each.damaged
            )
            for each in self._projections.beginnings.all_unfinished()
        ]
        unreadable = self._log.undecodable + len(self._projections.refused)
        return pb.ListRunsResponse(
            runs=runs,
            unreadable_events=unreadable,
            unfinished_imports=unfinished,
            archived=len(self._past_runs),
            more=more,
        )

    def _listed(self, after: str, limit: int) -> tuple[list[pb.RunStatus], bool]:
        order = list(self._projections.runs)
        start = order.index(after) + 1 if after in self._projections.runs else 0
        end = start + limit if limit else len(order)
        shown = self._projections.runs.each(self._status_of, _as_it_is, order[start:end])
        return [*map(without_guidelines, shown)], end < len(order)

    async def WatchRun(self, request: pb.WatchRunRequest, context: Context) -> AsyncIterator[pb.WatchRunResponse]:
        state = await self._past_runs.state(request.run_id)
        with self._projections.subscribe(request.run_id) as subscribe:
            over = False
            while not over:
                subscribe.clear()
                over = state.over  # read before sending: if the run ends meanwhile, one more response follows
                yield pb.WatchRunResponse(run=self._status_of(state))
                if not over:
                    await subscribe.wait()
                    await asyncio.sleep(_WATCH_PAUSE_S)  # a burst of labels is sent as one change

    async def CancelRun(self, request: pb.CancelRunRequest, context: Context) -> pb.CancelRunResponse:
        _check_reason(request.reason)
        state = self._projections.get(request.run_id)
        if state.ended:
            message = f"run {request.run_id!r} has ended: {state.ended.why}"
            raise WrongState("RUN_ENDED", message, run_id=request.run_id)
        cancelled = RunCancelled(reason=request.reason or "cancelled")
        recorded = await self._log.append_once(Event(run_id=request.run_id, round=0, run_cancelled=cancelled))
        await self._projections.wait_for(recorded.sequence)
        return pb.CancelRunResponse(run=self._status(request.run_id))

    async def ListLabels(self, request: pb.ListLabelsRequest, context: Context) -> AsyncIterator[pb.ListLabelsResponse]:
        records = label_records(await self._past_runs.state(request.run_id))
        while part := list(islice(records, _LABELS_PART)):
            yield pb.ListLabelsResponse(labels=part)

    async def GetModel(self, request: pb.GetModelRequest, context: Context) -> pb.GetModelResponse:
        state = await self._past_runs.state(request.run_id)
        digest = _model_of(state, request.round)
        model = await self._artifacts.get(digest)
        trained = next((each for each in state.models if each.event.model_sha256 == digest), None)
        if request.described and trained and state.pool:  # a model of the run that this one continues is not its own
            about = (request.run_id, trained.round, trained.event, state.pool)
            model = await asyncio.to_thread(described, model, *about)
        return pb.GetModelResponse(model_sha256=digest, model=model)

    async def ExportRun(self, request: pb.ExportRunRequest, context: Context) -> AsyncIterator[pb.ExportRunResponse]:
        async for part in self._ledger.export(request.run_id):
            yield part

    async def ImportRun(self, parts: AsyncIterator[pb.ImportRunRequest], context: Context) -> pb.ImportRunResponse:
        return pb.ImportRunResponse(run=self._status(await self._import.take_in(parts)))

    async def ClearImport(self, request: pb.ClearImportRequest, context: Context) -> pb.ClearImportResponse:
        _check_reason(request.reason)
        run_id = check_run_id(request.run_id)
        if run_id == self._import.run_id:
            message = f"the import of run {run_id!r} is under way: wait until it has ended"
            raise WrongState("IMPORT_UNDER_WAY", message, field="run_id", run_id=run_id)
        reason = request.reason or "given up"
        return pb.ClearImportResponse(events=await clear_import(self._projections, self._log, run_id, reason))

    async def SweepArtifacts(self, request: pb.SweepArtifactsRequest, context: Context) -> pb.SweepArtifactsResponse:
        if self._sweep is None:
            message = "artifacts are not kept on the broker (LABELLOOP_ARTIFACTS_URL): uploads leave no parts there"
            raise WrongState("NOTHING_TO_SWEEP", message)
        return pb.SweepArtifactsResponse(leftovers=await self._sweep.sweep(request))

    async def ArchiveRun(self, request: pb.ArchiveRunRequest, context: Context) -> pb.ArchiveRunResponse:
        archived = await self._archiving.archive(request.run_id)
        facts = archived.facts
        return pb.ArchiveRunResponse(
            run=listed_status(archived),
            sequence=archived.sequence,
            events=facts.event_count,
            left_out=facts.left_out,
            archive_sha256=facts.archive_sha256,
        )

    async def RestoreRun(self, request: pb.RestoreRunRequest, context: Context) -> pb.RestoreRunResponse:
        await self._archiving.restore(request.run_id)
        return pb.RestoreRunResponse(run=self._status(request.run_id))

    def _status(self, run_id: str) -> pb.RunStatus:
        return self._status_of(self._projections.get(run_id))

    def _status_of(self, state: RunState) -> pb.RunStatus:
        held_up = self._projections.held_up_by(SERVICE, state.run_id, state.spec.queue.tool)
        status = status_of(state, held_up)
        status.archived = state.run_id in self._projections.archived
        return status


def _as_it_is(status: pb.RunStatus) -> pb.RunStatus:
    return status


def _check_reason(reason: str) -> None:
    if len(reason) > _REASON_CHARACTERS_MAX:
        message = f"the reason has {len(reason)} characters: shorten it to {_REASON_CHARACTERS_MAX}"
        raise InvalidInput("REASON_TOO_LONG", message, field="reason", most=_REASON_CHARACTERS_MAX)


def _set_resolution_version(spec: RunSpec) -> None:
    """Set the version of the rules by which answers become a label, whatever the client says: the newest.

    It stays unset where one annotator is asked, as no rules apply then.
    """
    if spec.queue.annotators > 1:
        spec.queue.resolution_version = RESOLUTION_VERSION
    elif spec.HasField("queue"):
        spec.queue.ClearField("resolution_version")


def _same_start(one: RunStarted, other: RunStarted) -> bool:
    """Return whether runs are started alike, be they imported or not, by this release or an earlier one."""
    alike = []
    for started in (one, other):
        event = Event(run_started=started)
        if event.run_started.spec.HasField("queue"):
            event.run_started.spec.queue.ClearField("resolution_version")
        alike.append(without_import(event))
    return alike[0] == alike[1]


def _continued(dataset: DatasetSource, changes: DatasetSource) -> DatasetSource:
    """Return the parent's dataset with what a request that names no pool changes of it."""
    fields = {field.name: value for source in (dataset, changes) for field, value in source.ListFields()}
    return DatasetSource(**fields)


def _exists(run_id: str, standing: Event | None, started: RunStarted) -> WrongState:
    """Return the error for a run id that is taken, which says whether only the dataset's files differ."""
    wanted = RunStarted()
    wanted.CopyFrom(started)
    if standing:
        wanted.dataset_sha256 = standing.run_started.dataset_sha256
    if standing and _same_start(standing.run_started, wanted):
        message = f"there is a run {run_id!r} already, of the dataset as it was before its files changed"
        return WrongState("DATASET_CHANGED", f"{message}; choose another run id", run_id=run_id)
    message = f"there is a run {run_id!r} already, with another spec; choose another run id"
    return WrongState("RUN_EXISTS", message, run_id=run_id)


def _taken(archived: ArchivedRun) -> WrongState:
    run_id, became = archived.run_id, "was deleted" if archived.deleted else "is archived"
    message = f"there was a run {run_id!r}, which {became}; choose another run id"
    return WrongState("RUN_EXISTS", message, run_id=run_id)


def _new_run_id() -> str:
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def _inheritance(parent: RunState) -> Inheritance:
    if parent.ended is None or parent.ended.kind == "run_cancelled":
        message = f"run {parent.run_id!r} has not finished, so no run can continue it"
        raise WrongState("RUN_NOT_FINISHED", message, run_id=parent.run_id)
    check_labelled(parent.run_id, len(parent.training) + len(parent.audit) + len(parent.certified))
    labelled = parent.labelled
    return Inheritance(
        run_id=parent.run_id,
        sample_ids=[example.sample_id for example in labelled],
        classes=[example.label for example in labelled],
        auto_labelled=[example.auto_labelled for example in labelled],
        model_sha256=parent.model_sha256,
        training_state_sha256=parent.training_state_sha256,
        head_sha256=parent.head_sha256 if parent.features_sha256 else "",
        features_sha256=parent.features_sha256,
        purposes=[Purpose.PURPOSE_CONTROL if parent.is_control(each) else each.purpose for each in labelled],
    )


def _model_of(state: RunState, round_: int) -> str:
    digests = {trained.round: trained.event.model_sha256 for trained in state.models}
    digest = digests.get(round_, "") if round_ else state.model_sha256
    if not digest:
        where = f"in round {round_}" if round_ else "yet"
        message = f"run {state.run_id!r} has no model {where}"
        raise NotFound("UNKNOWN_MODEL", message, run_id=state.run_id, round=round_)
    return digest
