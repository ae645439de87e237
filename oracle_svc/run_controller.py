"""Advance each run: publish its pool, provide or resolve its labels, and enforce its deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime

from labelloop.artifacts.store import ArtifactStore
from labelloop.errors import Corrupt, InvalidInput, LimitExceeded, NotFound, WrongState
from labelloop.eventlog.log import EventLog, Recorded
from labelloop.eventlog.projections import RunProjections
from labelloop.events.v1.events_pb2 import Event, LabelProvided, PoolPublished, RunFailed
from labelloop.observability import metrics

from oracle_svc.datasets.cache import DatasetCache
from oracle_svc.datasets.publisher import publish
from oracle_svc.domain.consensus import posteriors
from oracle_svc.domain.labeling_state import (
    AnswerLabels,
    Expire,
    LabelingState,
    PublishPool,
    Resolve,
    Wait,
    next_action,
)
from oracle_svc.domain.resolution import Posteriors, expire, settle, to_weigh
from oracle_svc.metrics import queue_gauges
from oracle_svc.result_recorder import append_answers

_LOOK_EVERY_S = 0.5  # at most this often: deadlines are in seconds
_HOPELESS = (InvalidInput, NotFound, Corrupt, LimitExceeded)  # a retry would not help


class RunController:
    """Carries out the next actions of every run. Safe to repeat at any time: completed work is in the event log."""

    def __init__(
        self,
        projections: RunProjections[LabelingState],
        log: EventLog,
        dataset_cache: DatasetCache,
        artifacts: ArtifactStore,
    ) -> None:
        self._projections, self._log, self._dataset_cache, self._artifacts = projections, log, dataset_cache, artifacts
        self._published: dict[bytes, PoolPublished] = {}
        metrics.watch(projections, queue_gauges)

    async def advance(self, run_id: str) -> None:
        """Carry out one run's actions until it has to wait."""
        labeling = self._projections.get(run_id)
        while True:
            match next_action(labeling, datetime.now(UTC)):
                case PublishPool():
                    done = [await self._log.append_once(await self._publish(labeling))]
                case AnswerLabels(round_, sample_ids):
                    done = await self._answer(labeling, round_, sample_ids)
                case Resolve(answered):
                    events, disputed = settle(labeling, answered, await _weighed(labeling, answered))
                    labeling.disputed.update(disputed)
                    done = await append_answers(self._log, events)
                    labeling.mark_resolved(answered)
                    self._projections.notify(run_id)  # more annotators may be wanted now
                case Expire(sample_ids):
                    weighed = await _weighed(labeling, sample_ids)
                    done = await append_answers(self._log, expire(labeling, sample_ids, weighed))
                case Wait():
                    return
            for recorded in done:
                await self._projections.wait_for_append(recorded)

    async def _publish(self, labeling: LabelingState) -> Event:
        key = labeling.spec.dataset.SerializeToString(deterministic=True)
        try:
            if key not in self._published:
                dataset = await self._dataset_cache.get(labeling.spec.dataset)
                self._published[key] = await publish(dataset, self._artifacts)
        except _HOPELESS as error:  # fail the run: no label is paid for yet
            failed = RunFailed(reason=error.reason, message=error.message)
            return Event(run_id=labeling.run_id, round=0, run_failed=failed)
        return Event(run_id=labeling.run_id, round=0, pool_published=self._published[key])

    async def _answer(self, labeling: LabelingState, round_: int, sample_ids: tuple[int, ...]) -> list[Recorded]:
        dataset = await self._dataset_cache.get(labeling.spec.dataset)
        if dataset.labels is None:
            message = f"{dataset.name} has lost its labels since the run was started; bring them back"
            raise WrongState("LABELS_GONE", message, dataset=dataset.name)
        labels, source = dataset.labels, f"dataset:{dataset.name}"
        given = [LabelProvided(sample_id=each, label=int(labels[each]), source=source) for each in sample_ids]
        events = [Event(run_id=labeling.run_id, round=round_, label_provided=label) for label in given]
        return await append_answers(self._log, events)


async def _weighed(labeling: LabelingState, sample_ids: Iterable[int]) -> Posteriors:
    """Return class posteriors for these samples if the run's agreement rule weighs annotators, else none."""
    votes = to_weigh(labeling, sample_ids)
    return await asyncio.to_thread(posteriors, votes, labeling.gold) if votes else {}


async def watch_deadlines(projections: RunProjections[LabelingState]) -> None:
    """Notify each run when its deadline has passed, until cancelled."""
    with projections.subscribe() as subscribe:
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            subscribe.clear()
            now = datetime.now(UTC)
            waiting = [labeling for labeling in projections.runs.values() if labeling.deadline]
            for labeling in waiting:
                if labeling.deadline and labeling.deadline <= now:
                    projections.notify(labeling.run_id)
            ahead = [
                (labeling.deadline - now).total_seconds()
                for labeling in waiting
                if labeling.deadline and labeling.deadline > now
            ]
            subscribe.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(min(ahead, default=None)):
                    await subscribe.wait()
