"""Ask a tool again for requests whose results were refused: the tool is done with them, the run is not."""

from __future__ import annotations

from dataclasses import replace

from labelloop.domain.ids import LeaseKey, RequestId
from labelloop.eventlog.projections import RunProjections
from labelloop.runtime.backoff import Backoff

from oracle_svc.domain.labeling_state import LabelingState
from oracle_svc.domain.open_requests import slot_lease
from oracle_svc.leases import Leases
from oracle_svc.request_dispenser import tool_holder

_BACKOFF = Backoff(1.0, 2.0**20)  # twelve days


class RequestRetries:
    """Shortens the lease of a request whose result was refused, so that it is pushed into the tool again.

    The pause before that grows exponentially with the attempts, so that a tool that keeps failing is not asked without
    end, up to the end of its lease. A tool that shares samples out among its annotators keeps them, and is not asked
    again.
    """

    def __init__(self, tool: str, projections: RunProjections[LabelingState], leases: Leases) -> None:
        self._holder, self._projections, self._leases = tool_holder(tool), projections, leases

    async def __call__(self, request: RequestId) -> None:
        labeling = self._projections.runs.get(request.run_id)
        if labeling is None:
            return
        lease = _lease(labeling, request)
        pause_s = _BACKOFF.pause_s(self._leases.pushes(lease) + 1)
        await self._leases.shorten(lease, self._holder, pause_s)
        self._projections.notify(labeling.run_id)  # the lease ends sooner than the dispatcher expects

    def attempt(self, request: RequestId, revision: int) -> int:
        """Return the attempt with which the tool was last asked, as far as this replica knows.

        Args:
            revision: That of a result for the request. Once it is recorded, a request would have a larger one.
        """
        labeling = self._projections.runs.get(request.run_id)
        if labeling is None:
            return 0
        now = _lease(labeling, request)
        keys = (now, replace(now, revision=revision), replace(now, revision=0))
        return next((lease.attempt for key in keys if (lease := self._leases.lease(key)).sequence), 0)


def _lease(labeling: LabelingState, request: RequestId) -> LeaseKey:
    return slot_lease(labeling, replace(request, slot=request.slot or 0))
