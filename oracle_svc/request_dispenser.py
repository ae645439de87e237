"""Lease open requests to annotators, and build the request messages for annotators and tools."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from labelloop.domain.ids import RequestId
from labelloop.oracle.v1.oracle_pb2 import LabelRequest

from oracle_svc.domain.labeling_state import LabelingState
from oracle_svc.domain.open_requests import OpenRequest, for_annotator, for_everybody, next_revision
from oracle_svc.leases import Leases
from oracle_svc.samples.requests import Samples


def person(annotator: str) -> str:
    """Return the name under which an annotator holds leases."""
    return f"person:{annotator}"


def tool_holder(tool: str) -> str:
    """Return the name under which a tool holds leases, the same in every replica."""
    return f"tool:{tool}"


class RequestDispenser:
    """Leases requests to annotators and builds the messages that annotators and tools receive."""

    def __init__(self, leases: Leases, samples: Samples) -> None:
        self._leases, self._samples = leases, samples

    async def lease(
        self, labelings: Sequence[LabelingState], annotator: str, count: int, for_s: float
    ) -> list[LabelRequest]:
        """Lease up to ``count`` requests to ``annotator`` for ``for_s`` seconds, run by run.

        Of each run, requests that the annotator already holds come first.
        """
        holder = person(annotator)
        given: list[LabelRequest] = []
        for labeling in labelings:
            if labeling.pool is None or not labeling.for_people:
                continue
            asks = list(for_annotator(labeling, annotator))
            held = {key: i for i, key in enumerate(self._leases.held_by(holder, f"{labeling.run_id}."))}
            taken: set[int] = set()  # an annotator fills one slot of a sample at most
            for ask in sorted(asks, key=lambda ask: held.get(ask.lease, len(held))):
                if len(given) == count:
                    return given
                if ask.sample_id in taken:
                    continue
                if expires_at := await self._leases.take(ask.lease, holder, for_s):
                    taken.add(ask.sample_id)
                    request = await self.request(labeling, ask)
                    request.next_revision = next_revision(labeling, ask.sample_id, annotator)
                    request.lease_expires_at.FromDatetime(datetime.fromtimestamp(expires_at, UTC))
                    given.append(request)
        return given

    async def release(self, annotator: str, request_ids: Sequence[str]) -> int:
        """Release the annotator's leases; return how many they held. Raises InvalidInput for a malformed id."""
        keys = [str(RequestId.parse(request_id)).replace("/", ".") for request_id in request_ids]
        return sum([await self._leases.release(key, person(annotator)) for key in keys])

    def leased_count(self, labeling: LabelingState) -> int:
        """Count the open samples that an annotator or a tool holds."""
        return len({ask.sample_id for ask in for_everybody(labeling) if self._leases.holder(ask.lease)})

    async def request(self, labeling: LabelingState, ask: OpenRequest) -> LabelRequest:
        """Build a request message. Raises InvalidInput or similar if the dataset is gone."""
        return await self._samples.request(labeling, ask)
