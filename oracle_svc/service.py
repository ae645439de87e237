"""Serve OracleService: describe datasets, lease requests, record results, and manage dead letters."""

from __future__ import annotations

from collections.abc import AsyncIterator, Container, Iterable, Sequence
from contextlib import aclosing

from labelloop.domain.hold_ups import HoldUp, merged, message_of
from labelloop.domain.ids import RequestId
from labelloop.domain.names import normalised
from labelloop.errors import InvalidInput, LimitExceeded, NotFound, WrongState
from labelloop.eventlog.log import EventLog
from labelloop.eventlog.projections import RunProjections
from labelloop.events.v1.events_pb2 import SkipKind
from labelloop.oracle.v1 import oracle_pb2 as pb
from labelloop.oracle.v1.oracle_pb2 import LabelResult
from labelloop.oracle.v1.oracle_pb2_grpc import OracleServiceServicer
from labelloop.rpc.server import Context

from oracle_svc.dataset_queries import DatasetQueries
from oracle_svc.dead_letters import DeadLetters
from oracle_svc.domain.annotator_changes import annotators_change, answer_count, changed_name
from oracle_svc.domain.backlog import backlog_of, held_up_by, is_answer
from oracle_svc.domain.current_answers import digest_of, held_withdrawals, said, standing_count
from oracle_svc.domain.labeling_state import LabelingState
from oracle_svc.domain.late_answers import contradicting
from oracle_svc.domain.listed_run import EndedRun
from oracle_svc.domain.resolution import skipped
from oracle_svc.domain.result_validation import check_annotator, check_words, where_taking_part
from oracle_svc.domain.tool_states import SERVICE, ToolStates
from oracle_svc.integrations.base import source_of
from oracle_svc.request_dispenser import RequestDispenser
from oracle_svc.result_recorder import ResultRecorder, append_answers
from oracle_svc.tool_results import check_aliases, renamed_class, replay
from oracle_svc.uploads.receiver import UploadReceiver

QUEUE_SOURCE = "queue"
_RESULTS_MAX, _COUNT_MAX = 1_000, 100
_ANSWERS, _ANSWERS_MAX, _LETTERS_MAX = 1_000, 10_000, 100
_LEASE_S, _LEASE_MAX_S = 600, 24 * 3600


class OracleService(OracleServiceServicer):
    """gRPC servicer of the oracle. ``tools`` are the names of the connected annotation tools."""

    def __init__(
        self,
        projections: RunProjections[LabelingState],
        log: EventLog,
        datasets: DatasetQueries,
        recorder: ResultRecorder,
        counter: RequestDispenser,
        dead_letters: DeadLetters,
        tools: Sequence[str] = (),
        uploads: UploadReceiver | None = None,
        tool_states: ToolStates | None = None,
    ) -> None:
        self._projections, self._log, self._datasets, self._tools = projections, log, datasets, tools
        self._recorder, self._counter, self._dead_letters = recorder, counter, dead_letters
        self._received, self._tool_states = uploads, tool_states or ToolStates()

    async def DescribeDataset(self, request: pb.DescribeDatasetRequest, context: Context) -> pb.DescribeDatasetResponse:
        described = await self._datasets.describe(request)
        described.tools.extend(self._tools)
        return described

    async def FindSamples(
        self, request: pb.FindSamplesRequest, context: Context
    ) -> AsyncIterator[pb.FindSamplesResponse]:
        async for part in self._datasets.find(request):
            yield part

    async def ListOpenSamples(self, request: pb.ListOpenSamplesRequest, context: Context) -> pb.ListOpenSamplesResponse:
        samples = [
            pb.OpenSample(
                run_id=labeling.run_id,
                round=labeling.answers.rounds[sample_id],
                sample_id=sample_id,
                pool_sha256=labeling.pool.pool_sha256,
            )
            for labeling in self._unfinished(request.run_id)
            if labeling.pool and labeling.for_people
            for sample_id in labeling.open
        ]
        return pb.ListOpenSamplesResponse(samples=samples)

    async def SubmitLabels(self, request: pb.SubmitLabelsRequest, context: Context) -> pb.SubmitLabelsResponse:
        results = [
            LabelResult(
                request_id=self._request_id(request.run_id, label.sample_id, "labels"),
                label=label.label,
                annotator=request.annotator,
            )
            for label in request.labels
        ]
        return pb.SubmitLabelsResponse(**await self._submit(results, "labels"))

    async def SkipSamples(self, request: pb.SkipSamplesRequest, context: Context) -> pb.SkipSamplesResponse:
        results = [
            LabelResult(
                request_id=self._request_id(request.run_id, sample.sample_id, "samples"),
                skip=sample.kind,
                comment=sample.comment,
                annotator=request.annotator,
            )
            for sample in request.samples
        ]
        return pb.SkipSamplesResponse(**await self._submit(results, "samples"))

    def _request_id(self, run_id: str, sample_id: int, field: str) -> str:
        """Return the id of the request for a sample. Raises InvalidInput if the run never asked for it."""
        labeling = self._projections.get(run_id)
        if sample_id not in labeling.answers.rounds:
            message = f"run {run_id!r} does not ask for sample {sample_id}"
            raise InvalidInput("NOT_ASKED_FOR", message, field=field, sample_id=sample_id)
        return str(RequestId(run_id, labeling.answers.rounds[sample_id], sample_id))

    async def SubmitResults(self, request: pb.SubmitResultsRequest, context: Context) -> pb.SubmitResultsResponse:
        if len(request.results) > _RESULTS_MAX:
            message = f"{len(request.results)} results are too many for one call: send at most {_RESULTS_MAX}"
            raise InvalidInput("TOO_MANY_RESULTS", message, field="results", most=_RESULTS_MAX)
        return pb.SubmitResultsResponse(**await self._submit(request.results, "results"))

    async def _submit(self, results: Sequence[LabelResult], field: str) -> dict[str, int]:
        """Record results, which errors name as ``field``; return the counts that a response states."""
        recorded = await self._recorder.take(results, QUEUE_SOURCE, field)
        for result in results if recorded else ():
            one = self._recorder.asks_one(result)
            await self._dead_letters.close_replaced(result, one_annotator=one)
        repeated = len(results) - recorded
        contradicting_count = sum(map(self._contradicts, results)) if repeated else 0
        return {"recorded": recorded, "repeated_count": repeated, "contradicting_count": contradicting_count}

    def _contradicts(self, result: LabelResult) -> bool:
        """Return whether its annotator's answer to a settled sample contradicts what stands of it."""
        request = RequestId.parse(result.request_id)
        labeling = self._projections.get(request.run_id)
        name = labeling.name_in_log(result.annotator, result.annotator_id)
        return any(late.annotator == name for late in contradicting(labeling, request.sample_id))

    async def LeaseNext(self, request: pb.LeaseNextRequest, context: Context) -> pb.LeaseNextResponse:
        check_annotator(request.annotator)
        count, lease_s = request.count or 1, request.lease_s or _LEASE_S
        if count > _COUNT_MAX:
            message = f"{count} requests are too many for one annotator: take at most {_COUNT_MAX}"
            raise InvalidInput("TOO_MANY", message, field="count", most=_COUNT_MAX)
        if lease_s > _LEASE_MAX_S:
            message = f"a lease lasts at most {_LEASE_MAX_S} s, not {lease_s}"
            raise InvalidInput("LEASE_TOO_LONG", message, field="lease_s", most=_LEASE_MAX_S)
        labelings = [
            labeling
            for labeling in self._unfinished(request.run_id)
            if labeling.for_people and (request.run_id or not labeling.spec.queue.tool)
        ]
        labelings = where_taking_part(labelings, request.annotator)
        requests = await self._counter.lease(labelings, request.annotator, count, lease_s)
        return pb.LeaseNextResponse(requests=requests)

    async def ReleaseLeases(self, request: pb.ReleaseLeasesRequest, context: Context) -> pb.ReleaseLeasesResponse:
        check_annotator(request.annotator)
        if len(request.request_ids) > _RESULTS_MAX:
            message = f"{len(request.request_ids)} requests are too many for one call: send at most {_RESULTS_MAX}"
            raise InvalidInput("TOO_MANY", message, field="request_ids", most=_RESULTS_MAX)
        released = await self._counter.release(request.annotator, request.request_ids, self._identity_in)
        return pb.ReleaseLeasesResponse(released=released)

    async def CancelRequests(self, request: pb.CancelRequestsRequest, context: Context) -> pb.CancelRequestsResponse:
        labeling = self._projections.get(request.run_id)
        for sample_id in request.sample_ids:
            self._request_id(request.run_id, sample_id, "sample_ids")
        check_words(request.annotator, request.comment)
        said = {"annotator": request.annotator, "comment": request.comment}
        kind = SkipKind.SKIP_KIND_CANCELLED
        open_ = [sample_id for sample_id in dict.fromkeys(request.sample_ids) if sample_id in labeling.open]
        events = [skipped(labeling, sample_id, kind, QUEUE_SOURCE, **said) for sample_id in open_]
        standing = await append_answers(self._log, events)
        await self._projections.wait_for(max((recorded.sequence for recorded in standing), default=0))
        cancelled = sum(recorded.ours for recorded in standing)
        return pb.CancelRequestsResponse(cancelled=cancelled, repeated_count=len(request.sample_ids) - cancelled)

    async def ResendRequests(self, request: pb.ResendRequestsRequest, context: Context) -> pb.ResendRequestsResponse:
        labeling = self._projections.get(request.run_id)
        if len(request.sample_ids) > _RESULTS_MAX:
            message = (
                f"{len(request.sample_ids)} samples are too many for one call: name at most {_RESULTS_MAX}, or none"
            )
            raise InvalidInput("TOO_MANY", message, field="sample_ids", most=_RESULTS_MAX)
        if not (labeling.for_people and labeling.spec.queue.tool):
            message = f"run {request.run_id!r} is not labelled in a tool: there is nobody to ask again"
            raise WrongState("NO_TOOL", message, run_id=request.run_id)
        for sample_id in request.sample_ids:
            if sample_id not in labeling.gold:
                self._request_id(request.run_id, sample_id, "sample_ids")
        resent = await self._counter.resend(labeling, set(request.sample_ids))
        self._projections.notify(request.run_id)  # leases ended sooner than dispatchers expect
        return pb.ResendRequestsResponse(resent=resent)

    async def ChangeAnnotators(
        self, request: pb.ChangeAnnotatorsRequest, context: Context
    ) -> pb.ChangeAnnotatorsResponse:
        labeling = self._projections.get(request.run_id)
        name, recorded = changed_name(request), False
        answers = answer_count(labeling, name)
        while not recorded and (event := annotators_change(labeling, request)):
            standing = await self._log.append_once(event)
            await self._projections.wait_for(standing.sequence)
            recorded = standing.ours
        if recorded and not request.HasField("restored"):
            former = {normalised(name), normalised(request.alias.same_as), *labeling.names_of(name)}
            await self._counter.release_all(request.run_id, former)
        return pb.ChangeAnnotatorsResponse(recorded=recorded, annotator=labeling.identity_of(name), answers=answers)

    async def GetBacklog(self, request: pb.GetBacklogRequest, context: Context) -> pb.GetBacklogResponse:
        if request.run_id:
            self._projections.get(request.run_id)
        asked = [request.run_id] if request.run_id else None
        backlogs = self._projections.runs.each(self._backlog, _backlog_of_ended, asked)
        runs = [backlog for backlog in backlogs if backlog]
        away = merged([*self._tool_states.away(), *self._projections.hold_ups.of_tools()])
        letters = self._dead_letters
        response = pb.GetBacklogResponse(
            runs=runs,
            dead_letters=len(letters.of_run(request.run_id)),
            tools=self._tools,
            tools_away=map(message_of, away),
        )
        for backlog in response.runs:
            backlog.dead_letters = letters.count(backlog.run_id)
        return response

    async def ListAnswers(self, request: pb.ListAnswersRequest, context: Context) -> pb.ListAnswersResponse:
        self._projections.get(request.run_id)
        limit = min(request.limit or _ANSWERS, _ANSWERS_MAX)
        response = pb.ListAnswersResponse(last_sequence=request.after_sequence)
        async with aclosing(self._log.read_on(request.run_id, request.after_sequence)) as later:
            async for recorded in later:
                if recorded.event and is_answer(recorded.event):
                    response.events.append(recorded.event)
                    response.last_sequence = recorded.sequence
                if len(response.events) == limit:
                    break
        return response

    async def ListDeadLetters(self, request: pb.ListDeadLettersRequest, context: Context) -> pb.ListDeadLettersResponse:
        letters = self._dead_letters.of_run(request.run_id)[::-1]
        begin = 0
        if request.after_id:
            ids = [letter.id for letter in letters]
            _check_letters([request.after_id], ids)
            begin = ids.index(request.after_id) + 1
        return pb.ListDeadLettersResponse(letters=letters[begin : begin + _LETTERS_MAX], total=len(letters))

    async def ReplayDeadLetters(
        self, request: pb.ReplayDeadLettersRequest, context: Context
    ) -> pb.ReplayDeadLettersResponse:
        _check_letters(request.ids, self._dead_letters.letters)
        check_aliases(request.class_aliases)
        aliases = {each.name: each.class_name for each in request.class_aliases}
        response = pb.ReplayDeadLettersResponse()
        for letter in self._to_replay(request):
            if letter.id not in self._dead_letters.letters:  # one that was taken a moment ago replaced it
                continue
            class_name = renamed_class(letter, aliases)
            if aliases and not request.ids and not class_name:
                continue
            if error := await replay(letter, self._recorder, self._dead_letters, class_name):
                refused = response.refused.add()
                refused.CopyFrom(letter)
                refused.reason, refused.message = error.reason, error.message
            else:
                response.taken += 1
        return response

    def _to_replay(self, request: pb.ReplayDeadLettersRequest) -> list[pb.DeadLetter]:
        """Return the letters to try, in their order."""
        letters = {letter.id: letter for letter in self._dead_letters.of_run(request.run_id)}
        wanted = [letter_id for letter_id in dict.fromkeys(request.ids or letters) if letter_id in letters]
        return [letters[letter_id] for letter_id in self._dead_letters.newest_first(wanted)]

    async def ListHeldWithdrawals(
        self, request: pb.ListHeldWithdrawalsRequest, context: Context
    ) -> pb.ListHeldWithdrawalsResponse:
        labeling = self._projections.get(request.run_id)
        source = source_of(labeling.spec.queue.tool)
        held = held_withdrawals(labeling, source)
        return pb.ListHeldWithdrawalsResponse(
            withdrawals=[_held(labeling, each, source) for each in held[:_RESULTS_MAX]],
            total=len(held),
            digest=digest_of(held),
            standing=standing_count(labeling, source),
        )

    async def AcceptWithdrawals(
        self, request: pb.AcceptWithdrawalsRequest, context: Context
    ) -> pb.AcceptWithdrawalsResponse:
        labeling = self._projections.get(request.run_id)
        source = source_of(labeling.spec.queue.tool)
        held = held_withdrawals(labeling, source)
        if digest_of(held) != request.digest:
            message = f"the withdrawals held of run {request.run_id!r} are others by now: list them again"
            raise WrongState("WITHDRAWALS_CHANGED", message, field="digest", run_id=request.run_id)
        response = pb.AcceptWithdrawalsResponse()
        for withdrawal in held:
            try:
                response.withdrawn += await self._recorder.take([withdrawal], source)
            except (InvalidInput, WrongState):
                response.refused += 1
        labeling.hold(())  # the next look holds those that were refused again
        return response

    async def DiscardDeadLetters(
        self, request: pb.DiscardDeadLettersRequest, context: Context
    ) -> pb.DiscardDeadLettersResponse:
        _check_letters(request.ids, self._dead_letters.letters)
        ids = list(dict.fromkeys(request.ids))
        for letter_id in ids:
            await self._dead_letters.discard(letter_id)
        return pb.DiscardDeadLettersResponse(discarded=len(ids))

    async def ListRequests(self, request: pb.ListRequestsRequest, context: Context) -> AsyncIterator[pb.LabelRequest]:
        labeling = self._projections.get(request.run_id)
        for sample_id in list(labeling.open) if labeling.for_people else ():
            if sample_id in labeling.open:  # still: it may have been answered meanwhile
                yield await self._counter.shown(labeling, sample_id)

    async def FindMissingParts(
        self, request: pb.FindMissingPartsRequest, context: Context
    ) -> pb.FindMissingPartsResponse:
        return pb.FindMissingPartsResponse(missing=await self._uploads.missing(request.sha256))

    async def PutParts(self, request: pb.PutPartsRequest, context: Context) -> pb.PutPartsResponse:
        return pb.PutPartsResponse(stored=await self._uploads.put_parts(request.parts))

    async def PutUpload(self, request: pb.PutUploadRequest, context: Context) -> pb.PutUploadResponse:
        return pb.PutUploadResponse(upload=await self._uploads.put_upload(request))

    async def ListUploads(self, request: pb.ListUploadsRequest, context: Context) -> pb.ListUploadsResponse:
        return await self._uploads.listed()

    async def RemoveUpload(self, request: pb.RemoveUploadRequest, context: Context) -> pb.RemoveUploadResponse:
        return pb.RemoveUploadResponse(parts_deleted=await self._uploads.remove(request.id))

    @property
    def _uploads(self) -> UploadReceiver:
        if self._received is None:
            raise LimitExceeded("UPLOADS_OFF", "this oracle has nowhere to keep uploads: name a path on its machine")
        return self._received

    def _backlog(self, labeling: LabelingState) -> pb.Backlog | None:
        """Return the backlog of a run whose labels people give; None of any other."""
        if not labeling.for_people:
            return None
        backlog = backlog_of(labeling, self._counter.leased_count(labeling), self.held_up_by(labeling))
        backlog.held_withdrawals = len(held_withdrawals(labeling, source_of(labeling.spec.queue.tool)))
        return backlog

    def held_up_by(self, labeling: LabelingState) -> list[HoldUp]:
        """Return a run's current hold-ups, of any service."""
        tool = labeling.spec.queue.tool
        away = [each for each in self._tool_states.away() if each.tool == tool]
        return held_up_by(labeling, [*away, *self._projections.held_up_by(SERVICE, labeling.run_id, tool)])

    def _identity_in(self, run_id: str, annotator: str) -> str:
        try:
            return self._projections.get(run_id).identity_of(annotator)
        except NotFound:
            return annotator

    def _unfinished(self, run_id: str) -> list[LabelingState]:
        """Return the run of that id, or all that have not ended if it is empty: others have no open samples."""
        return [self._projections.get(run_id)] if run_id else self._projections.runs.going()


def _backlog_of_ended(ended: EndedRun) -> pb.Backlog | None:
    return ended.backlog if ended.listed.for_people else None


def _held(labeling: LabelingState, withdrawal: LabelResult, source: str) -> pb.HeldWithdrawal:
    request = RequestId.parse(withdrawal.request_id)
    newest = {each.annotator: each for each in said(labeling, request, source)}
    return pb.HeldWithdrawal(
        request_id=withdrawal.request_id,
        sample_id=request.sample_id,
        annotator=withdrawal.annotator,
        class_name=newest.get(withdrawal.annotator, LabelResult()).class_name,
    )


def _check_letters(ids: Iterable[str], among: Container[str]) -> None:
    for letter_id in ids:
        if letter_id not in among:
            message = f"there is no dead letter {letter_id!r}; `labelloop label dead` shows those there are"
            raise NotFound("UNKNOWN_LETTER", message, letter_id=letter_id)
