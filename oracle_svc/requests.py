"""What runs ask of the oracle, done: pools published, labels provided."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from labelloop.events.v1.events_pb2 import Event, LabelProvided, PoolPublished, RunFailed
from labelloop.wire import metrics
from labelloop.wire.artifacts import ArtifactStore
from labelloop.wire.errors import Corrupt, InvalidInput, LimitExceeded, NotFound, WrongState
from labelloop.wire.eventlog import EventLog, Recorded
from labelloop.wire.run_book import RunBook

from oracle_svc.desk import AnswerLabels, Desk, PublishPool, Wait, next_duty
from oracle_svc.metrics import LABELS_PAID, queue_gauges
from oracle_svc.shelf import Shelf, publish

_TOGETHER = 500  # appends under way at once
_HOPELESS = (InvalidInput, NotFound, Corrupt, LimitExceeded)  # trying again would not help


async def append_answers(log: EventLog, events: Sequence[Event]) -> list[Recorded]:
    """Append labels or skips; for each what stands in its place now, ours or an earlier one."""
    standing: list[Recorded] = []
    for i in range(0, len(events), _TOGETHER):
        standing += await asyncio.gather(*(_append(log, event) for event in events[i : i + _TOGETHER]))
    return standing


async def _append(log: EventLog, event: Event) -> Recorded:
    recorded = await log.append_once(event)
    LABELS_PAID.inc(recorded.ours)
    return recorded


class Requests:
    """Does the duties of every desk. Safe to repeat at any time: what is done already stands in the log."""

    def __init__(self, book: RunBook[Desk], log: EventLog, shelf: Shelf, artifacts: ArtifactStore) -> None:
        self._book, self._log, self._shelf, self._artifacts = book, log, shelf, artifacts
        self._published: dict[bytes, PoolPublished] = {}
        metrics.watch(book, queue_gauges)

    async def advance(self, run_id: str) -> None:
        """Do what one run wants, until it wants no more."""
        desk = self._book.get(run_id)
        while True:
            match next_duty(desk):
                case PublishPool():
                    done = [await self._log.append_once(await self._publish(desk))]
                case AnswerLabels(round_, sample_ids):
                    done = await self._answer(desk, round_, sample_ids)
                case Wait():
                    return
            for recorded in done:
                await self._book.settle(recorded)

    async def _publish(self, desk: Desk) -> Event:
        key = desk.spec.dataset.SerializeToString(deterministic=True)
        try:
            if key not in self._published:
                dataset = await self._shelf.get(desk.spec.dataset)
                self._published[key] = await publish(dataset, self._artifacts)
        except _HOPELESS as error:  # nothing is paid yet
            failed = RunFailed(reason=error.reason, message=error.message)
            return Event(run_id=desk.run_id, round=0, run_failed=failed)
        return Event(run_id=desk.run_id, round=0, pool_published=self._published[key])

    async def _answer(self, desk: Desk, round_: int, sample_ids: tuple[int, ...]) -> list[Recorded]:
        dataset = await self._shelf.get(desk.spec.dataset)
        if dataset.labels is None:
            message = f"{dataset.name} has lost its labels since the run was started; bring them back"
            raise WrongState("LABELS_GONE", message, dataset=dataset.name)
        labels, source = dataset.labels, f"dataset:{dataset.name}"
        given = [LabelProvided(sample_id=each, label=int(labels[each]), source=source) for each in sample_ids]
        events = [Event(run_id=desk.run_id, round=round_, label_provided=label) for label in given]
        return await append_answers(self._log, events)
