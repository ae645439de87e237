"""Takes answers, from whomever, and records each exactly once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from labelloop.events.v1.events_pb2 import Event
from labelloop.oracle.v1.oracle_pb2 import LabelResult
from labelloop.wire.errors import InvalidInput
from labelloop.wire.eventlog import EventLog, Recorded
from labelloop.wire.run_book import RunBook

from oracle_svc.desk import Desk
from oracle_svc.metrics import LABELS_PAID
from oracle_svc.taking import RequestId, admit

_TOGETHER = 500  # appends under way at once


async def append_answers(log: EventLog, events: Sequence[Event]) -> list[Recorded]:
    """Append what holds for samples, or was said of them; for each what stands in its place now, ours or another."""
    standing: list[Recorded] = []
    for i in range(0, len(events), _TOGETHER):
        standing += await asyncio.gather(*(append_answer(log, event) for event in events[i : i + _TOGETHER]))
    return standing


async def append_answer(log: EventLog, event: Event) -> Recorded:
    recorded = await log.append_once(event)
    LABELS_PAID.inc(recorded.ours and event.HasField("label_provided") and not event.label_provided.revision)
    return recorded


class Clerk:
    def __init__(self, book: RunBook[Desk], log: EventLog) -> None:
        self._book, self._log = book, log

    async def take(self, results: Sequence[LabelResult], source: str, field: str = "results") -> int:
        """Record ``results``, all or none; how many of them are recorded now: the others stood already, or came behind
        another annotator's. InvalidInput, WrongState or NotFound for the first that cannot be taken."""
        _check_said_once(results, field)
        admitted = [(result, self._admit(result, source, field)) for result in results]
        fresh = [(result, event) for result, event in admitted if event]
        recorded = 0
        for i in range(0, len(fresh), _TOGETHER):
            part = fresh[i : i + _TOGETHER]
            recorded += sum(await asyncio.gather(*(self._record(*each, source, field) for each in part)))
        return recorded

    def _admit(self, result: LabelResult, source: str, field: str) -> Event | None:
        return admit(self._book.get(RequestId.parse(result.request_id).run_id), result, source, field)

    async def _record(self, result: LabelResult, event: Event | None, source: str, field: str) -> bool:
        """Whether it is recorded now. Where another takes its place in the log meanwhile it is looked at again."""
        while event:
            recorded = await append_answer(self._log, event)
            await self._book.reach(recorded.sequence)
            if recorded.ours:
                return True
            event = self._admit(result, source, field)
        return False


def _check_said_once(results: Sequence[LabelResult], field: str) -> None:
    """What comes together has no order: it must not speak of a request twice."""
    seen: set[tuple[str, str]] = set()
    for result in results:
        if (result.request_id, result.annotator) in seen:
            message = f"request {result.request_id} is answered twice in one submission"
            raise InvalidInput("ANSWERED_TWICE", message, field=field, request_id=result.request_id)
        seen.add((result.request_id, result.annotator))
