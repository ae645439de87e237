"""Lease open requests to annotators, and build the request messages for annotators and tools."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime

from labelloop.domain.ids import LeaseKey, RequestId
from labelloop.oracle.v1.oracle_pb2 import LabelRequest

from oracle_svc.domain.labeling_state import LabelingState
from oracle_svc.domain.open_requests import OpenRequest, for_annotator, in_conflict, is_asked, next_revision
from oracle_svc.leases import Leases
from oracle_svc.samples.requests import Samples


def person(annotator: str) -> str:
    """Return the name under which an annotator holds leases."""
    return f"person:{annotator}"


def tool_holder(tool: str) -> str:
    """Return the name under which a tool holds leases, the same in every replica."""
    return f"tool:{tool}"


def _as_named(run_id: str, annotator: str) -> str:
    return annotator


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
        given: list[LabelRequest] = []
        for labeling in labelings:
            if labeling.pool is None or not labeling.for_people:
                continue
            holder = person(labeling.identity_of(annotator))
            asks = list(for_annotator(labeling, annotator))
            held = {key.request: i for i, key in enumerate(self._leases.held_by(holder, labeling.run_id))}
            taken: set[int] = set()  # an annotator fills one slot of a sample at most
            for ask in sorted(asks, key=lambda ask: held.get(ask.lease.request, len(held))):
                if len(given) == count:
                    return given
                if ask.sample_id in taken:
                    continue
                if expires_at := await self.claim(labeling, ask.lease, holder, for_s):
                    taken.add(ask.sample_id)
                    request = await self.request(labeling, ask)
                    request.next_revision = next_revision(labeling, ask.sample_id, annotator)
                    request.lease_expires_at.FromDatetime(datetime.fromtimestamp(expires_at, UTC))
                    given.append(request)
        return given

    async def release(
        self, annotator: str, request_ids: Sequence[str], identity_in: Callable[[str, str], str] = _as_named
    ) -> int:
        """Release an annotator's requests; return how many they held. Raises InvalidInput for a malformed id.

        Args:
            identity_in: Returns an annotator's identity in the run of that id.
        """
        requests = dict.fromkeys(RequestId.parse(request_id) for request_id in request_ids)
        keys = [key for request in requests for key in self._leases.held_of_sample(request) if key.request == request]
        holders = [person(identity_in(key.request.run_id, annotator)) for key in keys]
        held = [each for each in zip(keys, holders, strict=True) if await self._leases.release(*each)]
        return len({key.request for key, _ in held})

    async def release_all(self, run_id: str, annotators: Iterable[str]) -> None:
        """Release what these annotators hold of a run, for others to take."""
        for holder in map(person, annotators):
            for key in self._leases.held_by(holder, run_id):
                await self._leases.release(key, holder)

    async def claim(self, labeling: LabelingState, lease: LeaseKey, holder: str, for_s: float) -> float:
        """Take a lease, or renew the holder's own, unless somebody else holds one that conflicts with it.

        Returns:
            When it expires, in seconds since the epoch; 0.0 if somebody else was first.
        """
        if self._conflicts(labeling, lease, holder):
            return 0.0
        expires_at = await self._leases.take(lease, holder, for_s)
        if expires_at and not self.was_first(labeling, lease, holder):
            await self._leases.release(lease, holder)
            return 0.0
        return expires_at

    def is_free(self, labeling: LabelingState, lease: LeaseKey, holder: str) -> bool:
        """Return whether ``holder`` may take a lease: it is not held, and none that conflicts is held by others."""
        return not self._leases.holder(lease) and not self._conflicts(labeling, lease, holder)

    def was_first(self, labeling: LabelingState, lease: LeaseKey, holder: str) -> bool:
        """Return whether no conflicting lease was written before this one: leases have different subjects."""
        sequence = self._leases.lease(lease).sequence
        others = self._conflicts(labeling, lease, holder)
        return not any(self._leases.lease(other).sequence < sequence for other in others)

    def _conflicts(self, labeling: LabelingState, lease: LeaseKey, holder: str) -> list[LeaseKey]:
        """Return the conflicting leases that others hold."""
        held = [key for key in self._leases.held_of_sample(lease.request) if self._leases.holder(key) != holder]
        return in_conflict(labeling, lease, held)

    def leased_count(self, labeling: LabelingState) -> int:
        """Count the open samples that an annotator or a tool holds."""
        samples = (RequestId(labeling.run_id, labeling.answers.rounds[each], each) for each in labeling.open)
        return sum(any(is_asked(labeling, key) for key in self._leases.held_of_sample(sample)) for sample in samples)

    async def request(self, labeling: LabelingState, ask: OpenRequest) -> LabelRequest:
        """Build a request message. Raises InvalidInput or similar if the dataset is gone."""
        return await self._samples.request(labeling, ask)

    async def shown(self, labeling: LabelingState, sample_id: int) -> LabelRequest:
        """Build the request for an open sample, for nobody in particular, with its content however large that is.

        Raises InvalidInput or similar if the sample cannot be read.
        """
        round_ = labeling.answers.rounds[sample_id]
        request = await self.request(
            labeling, OpenRequest(labeling.run_id, round_, sample_id, None, labeling.annotators)
        )
        if request.uri:
            request.content = (await self._samples.picture(labeling, sample_id)).content
            request.ClearField("uri")
        return request
