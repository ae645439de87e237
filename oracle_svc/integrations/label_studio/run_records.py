"""Tell the integration what log and leases hold of its runs, and keep what it finds out for operators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from labelloop.domain.ids import LeaseKey, RequestId
from labelloop.errors import InvalidInput, NotFound
from labelloop.eventlog.projections import RunProjections
from labelloop.oracle.v1.oracle_pb2 import LabelResult
from labelloop.runtime.backoff import Backoff

from oracle_svc.domain.annotator_names import AnnotatorNames
from oracle_svc.domain.current_answers import RequestResults, results_of, standing_count
from oracle_svc.domain.labeling_state import LabelingState
from oracle_svc.integrations.base import source_of
from oracle_svc.leases import Leases
from oracle_svc.request_dispenser import tool_holder

_BACKOFF = Backoff(1.0, 3600.0)


class RunRecords(Protocol):
    """What the integration needs to know of runs, and what it says of them."""

    def classes(self) -> Mapping[str, Sequence[str]]:
        """Return the classes of each run that goes on and is labelled in the tool."""
        ...

    def results(self, request_id: str) -> RequestResults:
        """Return what the log holds of a request; nothing of one that it does not know.

        Raises WrongState if the run is archived or deleted.
        """
        ...

    def names(self, run_id: str) -> AnnotatorNames:
        """Return the names of a run's annotators."""
        ...

    def standing_count(self, run_id: str) -> int:
        """Count the tool's results that stand in a run."""
        ...

    def in_tool(self, run_id: str) -> list[str]:
        """Return the requests of a run that the tool holds, as far as leases say."""
        ...

    async def ask_again(self, run_id: str, request_ids: Sequence[str]) -> None:
        """Have requests pushed again, because the tool does not hold them any more."""
        ...

    def hold(self, run_id: str, withdrawals: Sequence[LabelResult]) -> None:
        """Keep a run's withdrawals until a person accepts them, in place of those kept so far."""
        ...

    def notify(self, run_id: str, notices: Sequence[str]) -> None:
        """Say what somebody has to mend in the tool, in place of what was said so far."""
        ...


class LoggedRuns:
    """The runs of one tool as this oracle knows them."""

    def __init__(self, tool: str, projections: RunProjections[LabelingState], leases: Leases) -> None:
        self._tool, self._projections, self._leases = tool, projections, leases
        self._source, self._holder = source_of(tool), tool_holder(tool)

    def classes(self) -> dict[str, Sequence[str]]:
        return {
            each.run_id: each.pool.classes
            for each in self._projections.runs.going()
            if each.spec.queue.tool == self._tool and each.for_people and each.pool
        }

    def results(self, request_id: str) -> RequestResults:
        try:
            request = RequestId.parse(request_id)
            labeling = self._projections.get(request.run_id)
        except (InvalidInput, NotFound):  # a task of another broker's run, say: the sink refuses its results
            return RequestResults()
        return results_of(labeling, request, self._source) if labeling.pool else RequestResults()

    def names(self, run_id: str) -> AnnotatorNames:
        runs = self._projections.runs
        return runs[run_id].accounts if run_id in runs else AnnotatorNames()

    def standing_count(self, run_id: str) -> int:
        runs = self._projections.runs
        return standing_count(runs[run_id], self._source) if run_id in runs else 0

    def in_tool(self, run_id: str) -> list[str]:
        held = self._leases.held_by(self._holder, run_id)
        return list(dict.fromkeys(str(key.request) for key in held if self._leases.lease(key).counted))

    async def ask_again(self, run_id: str, request_ids: Sequence[str]) -> None:
        gone = set(request_ids)
        for key in self._leases.held_by(self._holder, run_id):
            if str(key.request) in gone:
                await self._shorten(key)
        self._projections.notify(run_id)  # leases end sooner than the dispatcher expects

    async def _shorten(self, key: LeaseKey) -> None:
        """End a lease after a pause that grows with the pushes: a tool that loses all it is given is not filled."""
        await self._leases.shorten(key, self._holder, _BACKOFF.pause_s(max(1, self._leases.pushes(key))))

    def hold(self, run_id: str, withdrawals: Sequence[LabelResult]) -> None:
        if self._projections.runs.is_going(run_id):
            self._projections.runs[run_id].hold(tuple(withdrawals))

    def notify(self, run_id: str, notices: Sequence[str]) -> None:
        if self._projections.runs.is_going(run_id):
            self._projections.runs[run_id].notice(tuple(notices))
