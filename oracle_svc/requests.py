"""What runs ask of the oracle, done: pools published, labels provided."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime

from labelloop.events.v1.events_pb2 import Event, LabelProvided, PoolPublished, RunFailed
from labelloop.wire import metrics
from labelloop.wire.artifacts import ArtifactStore
from labelloop.wire.errors import Corrupt, InvalidInput, LimitExceeded, NotFound, WrongState
from labelloop.wire.eventlog import EventLog, Recorded
from labelloop.wire.run_book import RunBook

from oracle_svc.agreement import posteriors
from oracle_svc.clerk import append_answers
from oracle_svc.desk import AnswerLabels, Desk, Expire, PublishPool, Settle, Wait, next_duty
from oracle_svc.metrics import queue_gauges
from oracle_svc.settling import Posteriors, expire, settle, to_weigh
from oracle_svc.shelf import Shelf, publish

_LOOK_EVERY_S = 0.5  # at most: deadlines are in seconds
_HOPELESS = (InvalidInput, NotFound, Corrupt, LimitExceeded)  # trying again would not help


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
            match next_duty(desk, datetime.now(UTC)):
                case PublishPool():
                    done = [await self._log.append_once(await self._publish(desk))]
                case AnswerLabels(round_, sample_ids):
                    done = await self._answer(desk, round_, sample_ids)
                case Settle(answered):
                    done = await append_answers(self._log, settle(desk, answered, await _weighed(desk, answered)))
                    desk.mark_settled(answered)
                    self._book.ring(run_id)  # more of it may be asked for now
                case Expire(sample_ids):
                    weighed = await _weighed(desk, sample_ids)
                    done = await append_answers(self._log, expire(desk, sample_ids, weighed))
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


async def _weighed(desk: Desk, sample_ids: Iterable[int]) -> Posteriors:
    """What the run's rule knows of these samples' classes, where it weighs answers."""
    votes = to_weigh(desk, sample_ids)
    return await asyncio.to_thread(posteriors, votes, desk.gold) if votes else {}


async def watch_deadlines(book: RunBook[Desk]) -> None:
    """Have each run looked at when its deadline is over, for ever."""
    with book.bell() as bell:
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            bell.clear()
            now = datetime.now(UTC)
            waiting = [desk for desk in book.runs.values() if desk.deadline]
            for desk in waiting:
                if desk.deadline and desk.deadline <= now:
                    book.ring(desk.run_id)
            ahead = [(desk.deadline - now).total_seconds() for desk in waiting if desk.deadline and desk.deadline > now]
            bell.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(min(ahead, default=None)):
                    await bell.wait()
