"""Lease open requests to annotators, and build the request messages for annotators and tools."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import UTC, datetime

from labelloop.domain.ids import LeaseKey, RequestId
from labelloop.oracle.v1.oracle_pb2 import LabelRequest

from oracle_svc.domain.labeling_state import LabelingState
from oracle_svc.domain.open_requests import (
    OpenRequest,
    fair_share,
    for_annotator,
    in_conflict,
    is_asked,
    next_revision,
)
from oracle_svc.leases import Leases
from oracle_svc.samples.requests import Samples

_TOGETHER = 100  # concurrent writes
_PERSON = "person:"


def person(annotator: str) -> str:
    """Return the name under which an annotator holds leases, the same in all of their browser tabs."""
    return f"{_PERSON}{annotator}"


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

        Of each run, requests that the annotator already holds come first. Of the others they are given no more than
        their fair share: the run's open requests, divided among those who hold some and themselves. An annotator for
        whom nothing is free takes over one request of who holds the most, if these are more than the share: the one
        that they would come to last. Gold samples do not count.
        """
        given: list[LabelRequest] = []
        labelings = [labeling for labeling in labelings if labeling.pool and labeling.for_people]
        for labeling in labelings:
            for ask, expires_at in await self._claim_share(labeling, annotator, count - len(given), for_s):
                given.append(await self._leased(labeling, ask, annotator, expires_at))
            if len(given) == count:
                return given
        gold = {(labeling.run_id, sample_id) for labeling in labelings for sample_id in labeling.gold}
        if gold.issuperset((request.run_id, request.sample_id) for request in given):
            for labeling in labelings:
                holder, asks = person(labeling.identity_of(annotator)), list(for_annotator(labeling, annotator))
                if found := await self._take_over(labeling, holder, for_s, asks):
                    return [*given, await self._leased(labeling, found[0], annotator, found[1])]
        return given

    async def _claim_share(
        self, labeling: LabelingState, annotator: str, count: int, for_s: float
    ) -> list[tuple[OpenRequest, float]]:
        """Take or renew the leases of up to ``count`` requests of a run; return the requests and when they expire."""
        holder = person(labeling.identity_of(annotator))
        asks = list(for_annotator(labeling, annotator))
        held = {key.request: i for i, key in enumerate(self._leases.held_by(holder, labeling.run_id))}
        share = fair_share(labeling, {holder, *self._people(labeling)})
        claimed: list[tuple[OpenRequest, float]] = []
        taken: set[int] = set()  # an annotator fills one slot of a sample at most
        for ask in sorted(asks, key=lambda ask: held.get(ask.lease.request, len(held))):
            if len(claimed) == count:
                break
            counts = ask.sample_id not in labeling.gold
            if ask.sample_id in taken or (counts and share <= 0 and self._leases.holder(ask.lease) != holder):
                continue
            if expires_at := await self.claim(labeling, ask.lease, holder, for_s):
                taken.add(ask.sample_id)
                share -= counts
                claimed.append((ask, expires_at))
        return claimed

    async def _take_over(
        self, labeling: LabelingState, holder: str, for_s: float, asks: Sequence[OpenRequest]
    ) -> tuple[OpenRequest, float] | None:
        """Take one of ``asks`` over from a person who holds more than their share; None if nobody does."""
        people, wanted = self._people(labeling), {ask.lease: ask for ask in asks}
        share = fair_share(labeling, {holder, *people})
        for other in sorted(people, key=lambda each: (-len(people[each]), each)):
            if other == holder or len(people[other]) <= share:
                continue
            for key in people[other][:0:-1]:  # never the first, which they are working on
                if key in wanted and (expires_at := await self._leases.hand_over(key, other, holder, for_s)):
                    return wanted[key], expires_at
        return None

    def _people(self, labeling: LabelingState) -> dict[str, list[LeaseKey]]:
        """Return what each person holds of a run's open samples, least recently renewed first."""
        found = {}
        for holder in self._leases.holders():
            if holder.startswith(_PERSON):
                held = self._leases.held_by(holder, labeling.run_id)
                found[holder] = [key for key in held if self._counts(labeling, key)]
        return {holder: keys for holder, keys in found.items() if keys}

    @staticmethod
    def _counts(labeling: LabelingState, key: LeaseKey) -> bool:
        """Return whether a lease counts to its holder's share."""
        return key.request.sample_id in labeling.open and is_asked(labeling, key)

    async def _leased(
        self, labeling: LabelingState, ask: OpenRequest, annotator: str, expires_at: float
    ) -> LabelRequest:
        """Build the message of a request that an annotator holds."""
        request = await self.request(labeling, ask)
        request.next_revision = next_revision(labeling, ask.sample_id, annotator)
        request.lease_expires_at.FromDatetime(datetime.fromtimestamp(expires_at, UTC))
        return request

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

    async def resend(self, labeling: LabelingState, sample_ids: Collection[int]) -> int:
        """Have the run's tool asked again now for the open requests that it has.

        Args:
            sample_ids: The samples; none for all.

        Returns:
            How many requests are asked again.
        """
        holder = tool_holder(labeling.spec.queue.tool)
        held = [key for key in self._leases.held_by(holder, labeling.run_id) if self._leases.lease(key).counted]
        keys = [key for key in held if not sample_ids or key.request.sample_id in sample_ids]
        open_ = [key for key in keys if is_asked(labeling, key)]
        ended = 0
        for i in range(0, len(open_), _TOGETHER):
            ended += sum(
                await asyncio.gather(*(self._leases.shorten(key, holder, 0) for key in open_[i : i + _TOGETHER]))
            )
        return ended

    async def claim(self, labeling: LabelingState, lease: LeaseKey, holder: str, for_s: float) -> float:
        """Take a lease, or renew the holder's own, unless somebody else holds one that conflicts with it.

        Returns:
            When it expires, in seconds since the epoch; 0.0 if somebody else was first. What a person took at the same
            time by another call, as from a second browser tab, is theirs; of a tool, another oracle pushes it.
        """
        if self._conflicts(labeling, lease, holder):
            return 0.0
        expires_at = await self._leases.take(lease, holder, for_s)
        if not expires_at and holder.startswith(_PERSON) and self._leases.holder(lease) == holder:
            expires_at = self._leases.lease(lease).expires_at
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
