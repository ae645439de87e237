"""Push the open requests of runs into an annotation tool, and retract those that are no longer needed.

Requests in the tool are leased to it. A short lease is taken before a request is pushed, and renewed for longer
afterwards: if the oracle dies in between, the request is pushed once more, by whichever replica finds the lease
expired. A request without a result is pushed again when the long lease ends, and sooner if its result was refused.

All replicas hold leases under the tool's name, so that any of them can retract what another pushed. Leases and the
event log arrive over separate streams: a replica catches up with the log before it acts on a lease.

A tool that is away is left alone for a while, with all its runs. A run whose requests the tool refuses waits on its
own; the service's log and the labeling state say why, and the backlog and the gauge of held-up runs show it. That a
tool is away is noted by direction.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from math import inf
from time import monotonic

import structlog
from labelloop.domain.ids import LeaseKey
from labelloop.errors import LabelloopError, NotAllowed, Unready
from labelloop.eventlog.log import EventLog
from labelloop.eventlog.projections import RunProjections
from labelloop.oracle.v1.oracle_pb2 import LabelRequest, LabelRetraction
from labelloop.runtime.backoff import Backoff
from labelloop.runtime.cancellation import without_losing_cancellation
from labelloop.runtime.crash_points import crash_point

from oracle_svc.domain.labeling_state import LabelingState
from oracle_svc.domain.open_requests import OpenRequest, for_tool, is_answered_by, is_asked, revision_for_anybody
from oracle_svc.domain.tool_states import Direction, ToolStates
from oracle_svc.integrations.base import Dropping, Integration, ResultSink, source_of
from oracle_svc.leases import Leases
from oracle_svc.request_dispenser import RequestDispenser, tool_holder

PUSH_WITHIN_S = 20.0  # time limit for a part of the requests, well within their leases
_PUSH_S = 30.0
_PART = 50
_LOOK_EVERY_S = 30.0
_BACKOFF = Backoff(1.0, 30.0)
_SUPPLY: tuple[Direction, ...] = ("requests", "retractions")
_TOGETHER_S = 0.05  # changes within this time are handled together

log = structlog.get_logger()


def _asked_s(error: Exception) -> float:
    """Return for how long a tool asked to be left alone, in seconds; 0 if it did not."""
    return error.retry_after_s if isinstance(error, Unready) else 0.0


@dataclass(frozen=True)
class _Refused:
    """A run whose requests were refused ``tries`` times in a row, until ``again_at_s`` of the monotonic clock."""

    tries: int
    again_at_s: float


@dataclass(frozen=True)
class _Claim:
    """A request that is leased for a push until ``until``, in seconds since the epoch."""

    ask: OpenRequest
    request: LabelRequest
    until: float


class IntegrationDispatcher:
    """Pushes requests into one tool, retracts obsolete ones, and runs the intake of its results.

    Args:
        push_within_s: Seconds that the tool may take to accept a part of the requests.
        states: Takes note of whether the tool is away.
    """

    def __init__(
        self,
        queue: Integration,
        result_sink: ResultSink,
        projections: RunProjections[LabelingState],
        log: EventLog,
        leases: Leases,
        dispenser: RequestDispenser,
        push_within_s: float = PUSH_WITHIN_S,
        states: ToolStates | None = None,
    ) -> None:
        self._queue, self._result_sink, self._projections, self._log = queue, result_sink, projections, log
        self._leases, self._dispenser = leases, dispenser
        self._push_within_s = push_within_s
        self._kept_s = queue.kept_s if isinstance(queue, Dropping) else inf
        self._holder, self._states = tool_holder(queue.name), states or ToolStates()
        self._refused: dict[str, _Refused] = {}

    @property
    def tool(self) -> str:
        return self._queue.name

    async def run(self) -> None:
        """Push requests and take results until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._serve())
            tasks.create_task(self._supply())

    async def _serve(self) -> None:
        for tries in count(1):
            asked_s = 0.0
            try:
                await without_losing_cancellation(self._queue.serve(self._result_sink))
            except Exception as error:
                self._say("results_not_received", error)
                self._note("results", error)
                asked_s = _asked_s(error)
            await asyncio.sleep(max(_BACKOFF.pause_s(tries), asked_s))

    async def _supply(self) -> None:
        tries = 0
        with self._projections.subscribe() as subscribe:
            while True:
                subscribe.clear()
                ends_at_s = monotonic() + self._leases.ends_in_s(self._holder)  # one may end while runs are supplied
                try:
                    await without_losing_cancellation(self._supply_runs())
                except Exception as error:
                    self._say("requests_not_delivered", error)
                    tries += 1
                    await asyncio.sleep(max(_BACKOFF.pause_s(tries), _asked_s(error)))
                    continue
                tries = 0
                for direction in () if self._refused else _SUPPLY:  # nothing fails, or nothing is left to be done
                    self._states.note(self._queue.name, direction)
                await asyncio.sleep(_TOGETHER_S)
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(self._look_in_s(), max(0.0, ends_at_s - monotonic()))):
                        await subscribe.wait()

    def _look_in_s(self) -> float:
        """Return seconds until the next check that no change of a run triggers."""
        waits_s = [refused.again_at_s - monotonic() for refused in self._refused.values()]
        return max(0.0, min([_LOOK_EVERY_S, self._leases.ends_in_s(self._holder), *waits_s]))

    def _note(self, direction: Direction, error: Exception) -> None:
        problem = error.message if isinstance(error, LabelloopError) else f"{type(error).__name__}: {error}"
        self._states.note(self._queue.name, direction, problem)

    @contextmanager
    def _noting(self, direction: Direction) -> Iterator[None]:
        """Note how a call to the tool ends. A refusal concerns one run, and shows that the tool is there."""
        try:
            yield
        except Exception as error:
            if isinstance(error, LabelloopError) and not isinstance(error, (Unready, NotAllowed)):
                self._states.note(self._queue.name, direction)
            else:
                self._note(direction, error)
            raise
        self._states.note(self._queue.name, direction)

    def _say(self, what: str, error: Exception, **more: str) -> None:
        if isinstance(error, LabelloopError):
            log.warning(what, tool=self._queue.name, reason=error.reason, problem=error.message, **more)
        else:
            log.exception(what, tool=self._queue.name, **more)

    async def _supply_runs(self) -> None:
        """Supply each run that uses the tool.

        Raises if the tool is away, or for an internal fault; requests refused for one run do not hold up others.
        """
        for labeling in self._concerned():
            if labeling.spec.queue.tool != self._queue.name or not labeling.for_people or not labeling.pool:
                continue
            refused = self._refused.get(labeling.run_id)
            if refused and refused.again_at_s > monotonic():
                continue
            try:
                await self._supply_run(labeling)
            except Unready:
                raise
            except LabelloopError as error:
                self._say("requests_refused_by_tool", error, run=labeling.run_id)
                labeling.refuse(error.message)
                tries = refused.tries + 1 if refused else 1
                self._refused[labeling.run_id] = _Refused(tries, monotonic() + _BACKOFF.pause_s(tries))
            else:
                labeling.refuse("")
                self._refused.pop(labeling.run_id, None)

    def _concerned(self) -> list[LabelingState]:
        """Return the runs that go on, and those that have ended while the tool holds or refused requests of them."""
        runs = self._projections.runs
        for run_id in self._refused.keys() - runs.keys():  # archived meanwhile
            del self._refused[run_id]
        told = dict.fromkeys([*self._leases.runs_of(self._holder), *self._refused])
        ended = [runs[run_id] for run_id in told if run_id in runs and not runs.is_going(run_id)]
        return [*runs.going(), *ended]

    async def _supply_run(self, labeling: LabelingState) -> None:
        await self._retract(labeling)
        free = self._free(labeling, self._wanted(labeling))
        for i in range(0, len(free), _PART):
            await self._push(labeling, self._free(labeling, free[i : i + _PART]))

    def _wanted(self, labeling: LabelingState) -> Iterator[OpenRequest]:
        return for_tool(labeling, whole_samples=self._queue.whole_samples)

    def _free(self, labeling: LabelingState, asks: Iterable[OpenRequest]) -> list[OpenRequest]:
        return [ask for ask in asks if self._dispenser.is_free(labeling, ask.lease, self._holder)]

    async def _catch_up(self) -> None:
        """Wait until everything that the event log holds now is applied."""
        await self._projections.wait_for(await self._log.last_sequence())

    async def _push(self, labeling: LabelingState, asks: Sequence[OpenRequest]) -> None:
        made = [
            (ask, await self._dispenser.request(labeling, ask)) for ask in asks
        ]  # outside the time limit: reading a dataset may take long
        claims: list[_Claim] = []
        try:
            async with asyncio.timeout(self._push_within_s):
                for ask, request in made:
                    if until := await self._claim(labeling, ask.lease):
                        claims.append(_Claim(ask, request, until))
                if not claims:
                    return
                await self._catch_up()
                asked = [claim for claim in claims if self._is_ours(labeling, claim.ask.lease)]
                crash_point("before push")
                if asked:
                    with self._noting("requests"):
                        await self._queue.push([self._numbered(labeling, claim) for claim in asked])
                crash_point("after push")
        except Exception as error:
            await self._release(claims)
            if isinstance(error, TimeoutError):
                message = f"{self._queue.name} did not take {len(made)} requests within {self._push_within_s:g} s"
                slow = Unready("TOOL_SLOW", message, tool=self._queue.name)
                self._note("requests", slow)
                raise slow from error
            raise
        await self._release(claim for claim in claims if claim not in asked)
        await asyncio.gather(*(self._confirm(claim) for claim in asked))

    async def _claim(self, labeling: LabelingState, lease: LeaseKey) -> float:
        """Take the lease and return its expiry; 0.0 if it is held, perhaps by another replica since we looked."""
        if self._leases.holder(lease):
            return 0.0
        return await self._dispenser.claim(labeling, lease, self._holder, _PUSH_S)

    def _is_ours(self, labeling: LabelingState, lease: LeaseKey) -> bool:
        """Return whether a leased request may be pushed: it is still open, and nobody else was first."""
        return is_asked(labeling, lease) and self._dispenser.was_first(labeling, lease, self._holder)

    async def _release(self, claims: Iterable[_Claim]) -> None:
        for claim in claims:
            await self._leases.release(claim.ask.lease, self._holder)

    async def _confirm(self, claim: _Claim) -> None:
        revision = claim.request.next_revision
        await self._leases.confirm(
            claim.ask.lease, self._holder, claim.until, next_revision=revision, kept_s=self._kept_s
        )

    def _numbered(self, labeling: LabelingState, claim: _Claim) -> LabelRequest:
        claim.request.next_revision = revision_for_anybody(labeling, claim.ask.sample_id)
        claim.request.attempt = self._leases.pushes(claim.ask.lease)
        return claim.request

    async def _retract(self, labeling: LabelingState) -> None:
        """Retract the requests in the tool that are answered, or no longer asked for.

        A tool that has one request for each annotator is not told of those that it answered itself.
        """
        if not self._unwanted(labeling):
            return
        await self._catch_up()
        if not (done := self._unwanted(labeling)):
            return
        source = source_of(self._queue.name)
        told = [key for key in done if self._queue.whole_samples or not is_answered_by(labeling, key, source)]
        crash_point("before retract")
        if told:
            with self._noting("retractions"):
                await self._queue.retract([self._retraction(key) for key in told])
        crash_point("after retract")
        for key in done:
            await self._leases.release(key, self._holder)

    def _retraction(self, key: LeaseKey) -> LabelRetraction:
        lease = self._leases.lease(key)
        return LabelRetraction(
            request_id=str(key.request),
            run_id=key.request.run_id,
            attempt=lease.attempt,
            next_revision=lease.next_revision or key.revision,
        )

    def _unwanted(self, labeling: LabelingState) -> list[LeaseKey]:
        """Return leases that are no longer needed, except for samples whose answers are still to be resolved.

        Those may need more annotators in a moment.
        """
        wanted = {ask.lease for ask in self._wanted(labeling)}
        held = self._leases.held_by(self._holder, labeling.run_id)
        return [key for key in held if key not in wanted and key.request.sample_id not in labeling.unresolved]
