"""The counter at which requests are handed out: leases, and what each request says."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from labelloop.oracle.v1.oracle_pb2 import LabelRequest

from oracle_svc.asking import Ask, for_annotator, for_everybody, next_revision
from oracle_svc.desk import Desk
from oracle_svc.leases import Leases
from oracle_svc.samples import Samples
from oracle_svc.taking import RequestId


def person(annotator: str) -> str:
    """The holder of a lease that a person has."""
    return f"person:{annotator}"


def tool_holder(tool: str) -> str:
    """The holder of a lease that a tool has: the same in every oracle."""
    return f"tool:{tool}"


class Counter:
    def __init__(self, leases: Leases, samples: Samples) -> None:
        self._leases, self._samples = leases, samples

    async def lease(self, desks: Sequence[Desk], annotator: str, count: int, for_s: float) -> list[LabelRequest]:
        """Up to ``count`` requests for ``annotator``: first those that they hold already, then the next of each run."""
        holder = person(annotator)
        given: list[LabelRequest] = []
        for desk in desks:
            if desk.pool is None or not desk.for_people:
                continue
            asks = list(for_annotator(desk, annotator))
            held = {key: i for i, key in enumerate(self._leases.held_by(holder, f"{desk.run_id}."))}
            taken: set[int] = set()  # nobody is two of a sample's annotators
            for ask in sorted(asks, key=lambda ask: held.get(ask.lease, len(held))):
                if len(given) == count:
                    return given
                if ask.sample_id in taken:
                    continue
                if expires_at := await self._leases.take(ask.lease, holder, for_s):
                    taken.add(ask.sample_id)
                    request = await self.request(desk, ask)
                    request.next_revision = next_revision(desk, ask.sample_id, annotator)
                    request.lease_expires_at.FromDatetime(datetime.fromtimestamp(expires_at, UTC))
                    given.append(request)
        return given

    async def release(self, annotator: str, request_ids: Sequence[str]) -> int:
        """How many of them were theirs until now. InvalidInput for what is no request id."""
        keys = [str(RequestId.parse(request_id)).replace("/", ".") for request_id in request_ids]
        return sum([await self._leases.release(key, person(annotator)) for key in keys])

    def leased_count(self, desk: Desk) -> int:
        """Open samples that somebody, or some tool, holds."""
        return len({ask.sample_id for ask in for_everybody(desk) if self._leases.holder(ask.lease)})

    async def request(self, desk: Desk, ask: Ask) -> LabelRequest:
        """InvalidInput and the like where the dataset is gone."""
        return await self._samples.request(desk, ask)
